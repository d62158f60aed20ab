"""Vectors of facts, and recalling facts by them. The table `embeddings`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Record
from hearth_runtime.errors import InvalidArgument, MemoryNotFound
from hearth_runtime.identifiers import new_id
from hearth_runtime.memories import Memory, MemoryScope, MemorySource, MemorySubject, RecalledMemory
from hearth_runtime.principals import acting_for

from storage_service.chunks import text_of
from storage_service.database import Database, Transaction
from storage_service.queries import load_queries
from storage_service.vector_indexes import VectorIndex, VectorIndexes, typed

SQL = load_queries("memories")

TABLE = "embeddings"
# So many of the most similar are compared for each that is wanted, and this many at least.
COMPARED_FACTOR, LEAST_COMPARED = 4, 40


@dataclass(frozen=True, kw_only=True)
class MemoryEmbedding:
    """A text's vector of a model."""

    model: str
    values: tuple[float, ...]


class MemoryVectors:
    """The vectors that there are."""

    def __init__(self, database: Database, indexes: VectorIndexes) -> None:
        self._database = database
        self._indexes = indexes

    async def search(
        self,
        agent_id: str,
        subjects: Sequence[MemorySubject],
        embedding: MemoryEmbedding,
        *,
        limit: int,
        is_recall: bool,
    ) -> Sequence[RecalledMemory]:
        """The facts of these subjects that answer best. Raises InvalidArgument for a vector of another length."""
        await self.check_length(embedding)
        compared = max(limit * COMPARED_FACTOR, LEAST_COMPARED)
        statement = typed(SQL["recall"], len(embedding.values))
        scopes, names = [s.scope.value for s in subjects], [s.subject for s in subjects]
        arguments = (text_of(embedding.values), embedding.model, agent_id, scopes, names, compared, limit)
        async with self._database.transaction() as transaction:
            await transaction.fetchrow(SQL["tune_scan"], compared)
            rows = await transaction.fetch(statement, *arguments)
            if len(rows) < limit:
                # There are no more, or the index did not reach them; of so few the exact order is cheap.
                await transaction.fetchrow(SQL["scan_exactly"])
                rows = await transaction.fetch(statement, *arguments)
            if is_recall:
                await transaction.fetchrow(SQL["count_recall"], [row["id"] for row in rows])
        if rows:
            # It may have been lost, or never built, as after restoring a database.
            self.ask_for_index(embedding)
        return [_recalled(row) for row in rows]

    async def unembedded(
        self, agent_id: str, subjects: Sequence[MemorySubject], *, model: str, limit: int
    ) -> Sequence[Memory]:
        """Facts of these subjects that have no vector of the model, the newest first."""
        scopes, names = [s.scope.value for s in subjects], [s.subject for s in subjects]
        rows = await self._database.fetch(SQL["list_unembedded"], agent_id, scopes, names, model, limit)
        return [memory_of(row) for row in rows]

    async def put(self, memory_id: str, embedding: MemoryEmbedding) -> None:
        """Keeps the fact's vector of the model. Raises MemoryNotFound, and InvalidArgument for one of another
        length."""
        await self.check_length(embedding)
        async with self._database.transaction() as transaction:
            await put_vector(transaction, memory_id, embedding)
        self.ask_for_index(embedding)

    async def check_length(self, embedding: MemoryEmbedding) -> None:
        """Raises InvalidArgument where vectors of the model had another length before."""
        # A model's vectors are of one length for all owners. Who has none would look in vain through all the others'.
        with acting_for(None):
            row = await self._database.fetchrow(SQL["find_dimensions"], embedding.model)
        if row is not None and row["dimensions"] != len(embedding.values):
            raise InvalidArgument(
                f"{embedding.model} gives vectors of {len(embedding.values)} numbers and gave some of "
                f"{row['dimensions']}: it is not the model that it was. Give the other one another name, and set that "
                "as HEARTH_EMBEDDING_MODEL."
            )

    def ask_for_index(self, embedding: MemoryEmbedding) -> None:
        """Has the model's index built, if it is not there."""
        self._indexes.ask_for(VectorIndex(table=TABLE, model=embedding.model, dimensions=len(embedding.values)))


async def put_vector(transaction: Transaction, memory_id: str, embedding: MemoryEmbedding) -> None:
    """Keeps the fact's vector of the model. Raises MemoryNotFound."""
    put = await transaction.fetchrow(
        SQL["put_embedding"], new_id(), memory_id, embedding.model, text_of(embedding.values)
    )
    if put is None:
        raise memory_not_found(memory_id)


def memory_not_found(memory_id: str) -> MemoryNotFound:
    return MemoryNotFound(
        f"There is no memory {memory_id}. GET /api/v1/agents/AGENT_ID/memories lists those of an agent.",
        metadata={"memory_id": memory_id},
    )


def memory_of(row: Record) -> Memory:
    """The fact that the row holds."""
    return Memory(
        id=str(row["id"]),
        agent_id=str(row["agent_id"]),
        scope=MemoryScope(row["scope"]),
        subject=row["subject"],
        content=row["content"],
        topic=row["topic"],
        importance=row["importance"],
        source=MemorySource(row["source"]),
        task_id=None if row["task_id"] is None else str(row["task_id"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_recalled_at=row["last_recalled_at"],
        recall_count=row["recall_count"],
        superseded_by=None if row["superseded_by"] is None else str(row["superseded_by"]),
        superseded_at=row["superseded_at"],
    )


def _recalled(row: Record) -> RecalledMemory:
    numbers: dict[str, Any] = {name: row[name] for name in ("similarity", "relevance", "recency", "score")}
    return RecalledMemory(memory=memory_of(row), **numbers)
