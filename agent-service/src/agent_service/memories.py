"""Long-term memory: facts that agents keep, embedded as they come and found again by what they say."""

from collections.abc import Sequence

from hearth_runtime.errors import FieldViolation, InvalidArgument, MemoryNotFound
from hearth_runtime.identifiers import new_id
from hearth_runtime.memories import (
    MEMORY_CHARACTERS,
    TOPIC_CHARACTERS,
    Memory,
    MemorySource,
    MemorySubject,
    RecalledMemory,
)

from agent_service.embedding import prefixes_of, query_text
from agent_service.inference import Models
from agent_service.memory_store import Kept, MemoryChange, MemoryEmbedding, NewMemory, StoredMemories
from agent_service.tool import ToolHost
from agent_service.topics import topic_of

DEFAULT_IMPORTANCE = 0.5
EMBED_SECONDS = 8.0
# So many facts that another embedding model left behind are embedded by one search; the next ones go on.
CATCH_UP = 64
# Of a long question its end counts: there it asks.
QUERY_CHARACTERS = 1000


class Memories:
    """The rules over the store."""

    def __init__(self, stored: StoredMemories, models: Models, *, embedding_model: str) -> None:
        self._stored = stored
        self._models = models
        self._model = embedding_model

    @classmethod
    def on(cls, host: ToolHost) -> "Memories":
        """Those that a run and its tools reach."""
        return cls(StoredMemories(host.storage), Models(host.inference), embedding_model=host.settings.embedding_model)

    async def keep(
        self,
        agent_id: str,
        subject: MemorySubject,
        content: str,
        *,
        source: MemorySource,
        topic: str | None = None,
        importance: float = DEFAULT_IMPORTANCE,
        task_id: str | None = None,
    ) -> Kept:
        """Keeps a fact unless it is known; it supersedes those of its topic, which its wording tells if `topic` does
        not. Raises AgentNotFound, SessionNotFound and the errors of embedding."""
        content = _checked(content)
        embedding = await self._embedding(_passage(self._model, content), agent_id)
        return await self._stored.keep(
            NewMemory(
                id=new_id(),
                agent_id=agent_id,
                subject=subject,
                content=content,
                topic=_folded(topic) or topic_of(content),
                importance=importance,
                source=source,
                task_id=task_id,
                embedding=embedding,
            )
        )

    async def update(
        self, memory_id: str, *, content: str | None, topic: str | None, importance: float | None
    ) -> Memory:
        """Changes what is not None; an empty topic is none. Raises MemoryNotFound, MemoryKnown."""
        embedding = None
        if content is not None:
            content = _checked(content)
            agent_id = (await self._stored.get(memory_id)).agent_id
            embedding = await self._embedding(_passage(self._model, content), agent_id)
        topic = _folded(topic) if topic else topic
        change = MemoryChange(id=memory_id, content=content, topic=topic, importance=importance, embedding=embedding)
        return await self._stored.update(change)

    async def search(
        self, agent_id: str, subjects: Sequence[MemorySubject], query: str, *, limit: int, is_recall: bool
    ) -> tuple[RecalledMemory, ...]:
        """The facts that answer best, the best first. What is found for a run, `is_recall`, is recent again.

        Facts that were embedded by another model are embedded anew first, the newest of them.
        """
        embedding = await self._embedding(query_text(self._model, query[-QUERY_CHARACTERS:]), agent_id)
        await self._catch_up(agent_id, subjects)
        return await self._stored.search(agent_id, subjects, embedding, limit=limit, is_recall=is_recall)

    async def _catch_up(self, agent_id: str, subjects: Sequence[MemorySubject]) -> None:
        behind = await self._stored.unembedded(agent_id, subjects, model=self._model, limit=CATCH_UP)
        if not behind:
            return
        vectors = await self._models.embed(
            [_passage(self._model, memory.content) for memory in behind],
            model=self._model,
            fair_key=agent_id,
            timeout_seconds=EMBED_SECONDS,
        )
        for memory, values in zip(behind, vectors, strict=True):
            try:
                await self._stored.put_embedding(memory.id, MemoryEmbedding(model=self._model, values=tuple(values)))
            except MemoryNotFound:
                continue  # forgotten meanwhile

    async def _embedding(self, text: str, agent_id: str) -> MemoryEmbedding:
        (values,) = await self._models.embed(
            [text], model=self._model, fair_key=agent_id, timeout_seconds=EMBED_SECONDS
        )
        return MemoryEmbedding(model=self._model, values=tuple(values))


def _checked(content: str) -> str:
    content = " ".join(content.split())
    if not 0 < len(content) <= MEMORY_CHARACTERS:
        message = f"must have 1 to {MEMORY_CHARACTERS} characters"
        raise InvalidArgument(f"content {message}.", fields=[FieldViolation(field="content", message=message)])
    return content


def _passage(model: str, content: str) -> str:
    return prefixes_of(model).passage + content


def _folded(topic: str | None) -> str | None:
    return None if topic is None else " ".join(topic.split()).casefold()[:TOPIC_CHARACTERS] or None
