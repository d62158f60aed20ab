"""What agents remember. The tables `memories` and `embeddings`.

A fact is kept once: it is known where its text is (content_hash), or where a fact is so similar that only its wording
differs. A newer fact of the same topic supersedes the older ones, which stay as history and are not recalled.
"""

from dataclasses import dataclass

from asyncpg import Record
from hearth_runtime.errors import MemoryKnown
from hearth_runtime.identifiers import new_id
from hearth_runtime.memories import Memory, MemoryScope, MemorySource, MemorySubject

from storage_service.agents import agent_not_found
from storage_service.chunks import text_of
from storage_service.database import Database, Transaction
from storage_service.facts import content_hash, values
from storage_service.memory_vectors import MemoryEmbedding, MemoryVectors, memory_not_found, memory_of, put_vector
from storage_service.pages import Page, id_of_token, token_of_id
from storage_service.queries import containing, load_queries
from storage_service.sessions import session_not_found

SQL = load_queries("memories")


@dataclass(frozen=True, kw_only=True)
class NewMemory:
    """A fact to keep."""

    id: str
    agent_id: str
    subject: MemorySubject
    content: str
    topic: str | None
    importance: float
    source: MemorySource
    task_id: str | None
    embedding: MemoryEmbedding


@dataclass(frozen=True, kw_only=True)
class MemoryChange:
    """What to change of a fact; None leaves a thing as it is, an empty topic is none."""

    id: str
    content: str | None
    topic: str | None
    importance: float | None
    embedding: MemoryEmbedding | None


@dataclass(frozen=True, kw_only=True)
class MemoryFilter:
    """Which facts of an agent to list."""

    agent_id: str
    scope: MemoryScope | None
    subject: str | None
    contains: str | None
    include_superseded: bool


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of a fact: kept, or known as `memory`; and what it took the place of."""

    memory: Memory
    created: bool
    superseded_ids: tuple[str, ...]


class Memories:
    """The facts that there are. A subject has at most `limit`, history among them."""

    def __init__(self, database: Database, vectors: MemoryVectors, *, limit: int, duplicate_similarity: float) -> None:
        self._database = database
        self._vectors = vectors
        self._limit = limit
        self._duplicate_similarity = duplicate_similarity

    async def keep(self, new: NewMemory) -> Kept:
        """Keeps a fact unless it is known. Raises AgentNotFound, SessionNotFound, and InvalidArgument for a vector of
        another length."""
        await self._vectors.check_length(new.embedding)
        subject = (new.agent_id, new.subject.scope, new.subject.subject)
        async with self._database.transaction() as transaction:
            await transaction.fetchrow(SQL["lock_subject"], *subject)
            await _check_owner(transaction, new)
            known = await transaction.fetchrow(SQL["find_known"], *subject, content_hash(new.content))
            known = known or await self._same(transaction, new)
            if known is not None:
                row = await transaction.fetchrow(SQL["tell_again"], known["id"], new.importance)
                assert row is not None
                return Kept(memory=memory_of(row), created=False, superseded_ids=())
            row = await transaction.fetchrow(
                SQL["insert_memory"],
                new.id,
                *subject,
                _session_id(new),
                new.content,
                content_hash(new.content),
                new.topic,
                new.importance,
                new.source,
                new.task_id,
                new_id(),
                new.embedding.model,
                text_of(new.embedding.values),
            )
            assert row is not None
            superseded = await transaction.fetch(SQL["supersede"], new.id)
            await transaction.fetchrow(SQL["forget_least"], *subject, self._limit, new.id)
        self._vectors.ask_for_index(new.embedding)
        return Kept(memory=memory_of(row), created=True, superseded_ids=tuple(str(old["id"]) for old in superseded))

    async def get(self, memory_id: str) -> Memory:
        """Raises MemoryNotFound."""
        row = await self._database.fetchrow(SQL["get_memory"], memory_id)
        if row is None:
            raise memory_not_found(memory_id)
        return memory_of(row)

    async def list(self, *, page_size: int, token: str, where: MemoryFilter) -> Page[Memory]:
        """The facts that fit, the newest first. Raises AgentNotFound."""
        rows = await self._database.fetch(
            SQL["list_memories"],
            page_size + 1,
            id_of_token(token),
            where.agent_id,
            where.scope,
            where.subject,
            None if where.contains is None else containing(where.contains),
            where.include_superseded,
        )
        if not rows:
            await self.check_agent(where.agent_id)
        memories = [memory_of(row) for row in rows[:page_size]]
        return Page(items=memories, next_token=token_of_id(memories[-1].id) if len(rows) > page_size else "")

    async def update(self, change: MemoryChange) -> Memory:
        """Changes what is set. Raises MemoryNotFound, and MemoryKnown where another one says the same."""
        if change.embedding is not None:
            await self._vectors.check_length(change.embedding)
        memory = await self.get(change.id)
        subject = (memory.agent_id, memory.scope, memory.subject)
        new_hash = "" if change.content is None else content_hash(change.content)
        async with self._database.transaction() as transaction:
            await transaction.fetchrow(SQL["lock_subject"], *subject)
            known = await transaction.fetchrow(SQL["find_known"], *subject, new_hash)
            if known is not None and str(known["id"]) != memory.id and memory.superseded_at is None:
                raise MemoryKnown(
                    f"Memory {known['id']} says the same. Delete one of the two.", metadata={"id": str(known["id"])}
                )
            row = await transaction.fetchrow(
                SQL["update_memory"], memory.id, change.content, new_hash, change.topic, change.importance
            )
            if row is None:
                raise memory_not_found(memory.id)
            if change.embedding is not None:
                await put_vector(transaction, memory.id, change.embedding)
        return memory_of(row)

    async def delete(self, memory_id: str) -> None:
        """Forgets it. Raises MemoryNotFound."""
        if await self._database.fetchrow(SQL["delete_memory"], memory_id) is None:
            raise memory_not_found(memory_id)

    async def forget(self, agent_id: str, subject: MemorySubject) -> int:
        """Forgets all of the subject, history too; how many that were. Raises AgentNotFound."""
        await self.check_agent(agent_id)
        row = await self._database.fetchrow(SQL["forget_subject"], agent_id, subject.scope, subject.subject)
        assert row is not None
        return int(row["count"])

    async def _same(self, transaction: Transaction, new: NewMemory) -> Record | None:
        """The fact that differs from the new one in its wording alone."""
        nearest = await transaction.fetch(
            SQL["find_nearest"],
            new.agent_id,
            new.subject.scope,
            new.subject.subject,
            new.embedding.model,
            text_of(new.embedding.values),
        )
        for row in nearest:
            is_similar = row["similarity"] >= self._duplicate_similarity
            if is_similar and values(row["content"]) == values(new.content):
                return row
        return None

    async def check_agent(self, agent_id: str) -> None:
        """Raises AgentNotFound where there is none such."""
        row = await self._database.fetchrow(SQL["find_owner"], agent_id, None)
        if row is not None and not row["has_agent"]:
            raise agent_not_found(agent_id)


async def _check_owner(transaction: Transaction, new: NewMemory) -> None:
    row = await transaction.fetchrow(SQL["find_owner"], new.agent_id, _session_id(new))
    if row is not None and not row["has_agent"]:
        raise agent_not_found(new.agent_id)
    if row is not None and not row["has_session"]:
        raise session_not_found(new.subject.subject)


def _session_id(new: NewMemory) -> str | None:
    return new.subject.subject if new.subject.scope is MemoryScope.SESSION else None
