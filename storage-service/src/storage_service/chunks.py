"""Chunks of documents and their vectors. The tables `chunks` and `chunk_vectors`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpg import Record
from hearth_runtime.documents import Chunk, UnembeddedChunk
from hearth_runtime.errors import InvalidArgument

from storage_service.attempts import Attempts
from storage_service.database import Database
from storage_service.documents import Documents
from storage_service.queries import load_queries
from storage_service.vector_indexes import VectorIndex, VectorIndexes

SQL = load_queries("chunks")
TABLE = "chunk_vectors"


@dataclass(frozen=True, kw_only=True)
class ChunkVector:
    """What a model makes of a chunk."""

    chunk_id: int
    values: tuple[float, ...]


class Chunks:
    """The chunks that there are."""

    def __init__(self, database: Database, documents: Documents, attempts: Attempts, indexes: VectorIndexes) -> None:
        self._database = database
        self._documents = documents
        self._attempts = attempts
        self._indexes = indexes

    async def put(self, task_id: str, attempt: int, *, document_id: str, chunks: Sequence[Chunk]) -> None:
        """Keeps the chunks; again is harmless. Raises DocumentNotFound, AttemptOutdated."""
        row = await self._database.fetchrow(
            SQL["put_chunks"],
            task_id,
            attempt,
            document_id,
            [chunk.number for chunk in chunks],
            [chunk.text for chunk in chunks],
            [chunk.headings for chunk in chunks],
            [chunk.page for chunk in chunks],
            [chunk.start for chunk in chunks],
            [chunk.end for chunk in chunks],
        )
        await self._documents.written(row, task_id, attempt, document_id)

    async def unembedded(
        self, *, document_id: str | None, collection_id: str | None, model: str, limit: int, after_id: int | None
    ) -> tuple[Sequence[UnembeddedChunk], int, int]:
        """Chunks of the document, or of what can be found of the collection, that lack a vector of the model;
        how many lack one, and how many there are. After the chunk `after_id` nothing is counted, and both are 0: with
        each few chunks that would be the whole collection."""
        place, within = ("document", document_id) if document_id is not None else ("collection", collection_id)
        rows = await self._database.fetch(SQL[f"list_unembedded_of_{place}"], within, model, limit, after_id)
        if after_id is not None:
            return [_unembedded(row) for row in rows], 0, 0
        (counts,) = await self._database.fetch(SQL[f"count_unembedded_of_{place}"], within, model)
        return [_unembedded(row) for row in rows], counts["missing"], counts["total"]

    async def put_vectors(self, task_id: str, attempt: int, *, model: str, vectors: Sequence[ChunkVector]) -> None:
        """Keeps the vectors, and has their index made; again is harmless.

        Raises AttemptOutdated, and InvalidArgument where vectors of this model had another length before.
        """
        dimensions = {len(vector.values) for vector in vectors}
        known = await self._database.fetchrow(SQL["find_dimensions"], model)
        if known is not None:
            dimensions.add(known["dimensions"])
        if len(dimensions) != 1:
            raise other_length(model, dimensions)
        row = await self._database.fetchrow(
            SQL["put_vectors"],
            task_id,
            attempt,
            model,
            [vector.chunk_id for vector in vectors],
            [text_of(vector.values) for vector in vectors],
        )
        if row is None:
            raise await self._attempts.outdated(task_id, attempt)
        self._indexes.ask_for(VectorIndex(table=TABLE, model=model, dimensions=dimensions.pop()))


def other_length(model: str, dimensions: Collection[int]) -> InvalidArgument:
    """What to raise where a model gives vectors of another length than before."""
    lengths = " and ".join(map(str, sorted(dimensions)))
    return InvalidArgument(
        f"{model} gives vectors of {lengths} numbers: it is not the model that it was. Give the other one another "
        "name, and set that as the collection's embedding_model."
    )


def text_of(values: Sequence[float]) -> str:
    """The vector as PostgreSQL reads it, with all that 32 bits hold."""
    return f"[{','.join(format(value, '.9g') for value in values)}]"


def _unembedded(row: Record) -> UnembeddedChunk:
    return UnembeddedChunk(
        id=row["id"], text=row["text"], headings=tuple(row["headings"]), document_name=row["document_name"]
    )
