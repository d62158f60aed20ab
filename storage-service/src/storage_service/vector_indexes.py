"""Indexes of vectors: one for each embedding model in use, made beside the work when a model is first used.

A column of vectors has no length of its own, since models differ. So an index is over the vectors of one model, cast to
their type, and a query must cast to the same type: SQL has `{type}` there, which `typed` puts in.
"""

import asyncio
import hashlib
from dataclasses import dataclass

import asyncpg
from hearth_runtime.lifecycle import pause
from loguru import logger
from prometheus_client import Histogram

from storage_service.database import connect
from storage_service.queries import load_queries
from storage_service.settings import StorageSettings

SQL = load_queries("vector_indexes")

# https://github.com/pgvector/pgvector#hnsw: what an index takes; longer vectors are searched one by one.
VECTOR_DIMENSIONS, HALFVEC_DIMENSIONS = 2000, 4000
RETRY_SECONDS = 30.0

BUILD_SECONDS = Histogram(
    "hearth_vector_index_seconds", "Time to build an index of vectors", buckets=(0.1, 1, 10, 60, 300, 1800, 7200)
)


@dataclass(frozen=True, kw_only=True)
class VectorIndex:
    """The index over the vectors of one model in one table, whose columns are `model` and `vector`."""

    table: str
    model: str
    dimensions: int

    @property
    def name(self) -> str:
        """The same for the same index, and within PostgreSQL's 63 bytes."""
        digest = hashlib.sha256(self.model.encode()).hexdigest()[:12]
        return f"{self.table[:30]}_{digest}_{self.dimensions}"

    @property
    def is_possible(self) -> bool:
        """Whether pgvector can index vectors so long."""
        return self.dimensions <= HALFVEC_DIMENSIONS

    @property
    def operator_class(self) -> str:
        """For the cosine distance."""
        return "vector_cosine_ops" if self.dimensions <= VECTOR_DIMENSIONS else "halfvec_cosine_ops"


def typed(query: str, dimensions: int) -> str:
    """The query with the type that the index over vectors of so many numbers has. It is part of the text, since
    PostgreSQL takes no parameter there; a number is all that is put in."""
    return query.replace("{type}", type_of(dimensions))


def type_of(dimensions: int) -> str:
    """The type of vectors of so many numbers: with half the precision where an index takes them no otherwise."""
    return f"{'halfvec' if VECTOR_DIMENSIONS < dimensions <= HALFVEC_DIMENSIONS else 'vector'}({int(dimensions)})"


class VectorIndexes:
    """Builds the indexes that were asked for, one at a time, on a connection of its own."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._wanted: dict[VectorIndex, None] = {}
        self._built: set[VectorIndex] = set()
        self._asked = asyncio.Event()

    def ask_for(self, index: VectorIndex) -> None:
        """Has the index built, if it is not there. Returns at once: until it is there the search is exact, and slow."""
        if index.is_possible and index not in self._built and index not in self._wanted:
            self._wanted[index] = None
            self._asked.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Builds until `stopping` is set; what it cannot build it tries again later."""
        while not stopping.is_set():
            stopped = asyncio.create_task(stopping.wait())
            asked = asyncio.create_task(self._asked.wait())
            await asyncio.wait({stopped, asked}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            asked.cancel()
            self._asked.clear()
            while self._wanted and not stopping.is_set():
                index = next(iter(self._wanted))
                try:
                    is_there = await self.build(index)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                    logger.warning("an index of vectors could not be built yet", index=index.name, error=repr(error))
                    is_there = False
                if is_there:
                    self._built.add(index)
                    del self._wanted[index]
                elif await pause(stopping, RETRY_SECONDS):
                    return

    async def build(self, index: VectorIndex) -> bool:
        """Builds the index while others read and write; tells whether it is there. It is not while another process
        builds it."""
        connection = await connect(
            self._settings.database_url,
            timeout=self._settings.database_call_seconds,
            server_settings={
                "application_name": "hearth-indexes",
                "maintenance_work_mem": f"{self._settings.vector_index_mib}MB",
            },
        )
        try:
            # One that waited here within a statement would be waited for by the build.
            if not await connection.fetchval(SQL["lock_index"], index.name):
                return False
            is_valid = await connection.fetchval(SQL["find_index"], index.name)
            if is_valid:
                return True
            if is_valid is not None:
                await connection.execute(await connection.fetchval(SQL["drop_statement"], index.name))
            logger.info("building an index of vectors", index=index.name, model=index.model)
            statement = await connection.fetchval(
                SQL["create_statement"],
                index.name,
                index.table,
                type_of(index.dimensions),
                index.operator_class,
                index.model,
            )
            with BUILD_SECONDS.time():
                await connection.execute(statement)
            logger.info("an index of vectors is there", index=index.name, model=index.model)
            return True
        finally:
            await connection.close(timeout=5)
