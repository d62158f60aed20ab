"""The RPCs of what agents remember: requests to values and back. Only whether a request is valid is decided here."""

from collections.abc import Sequence
from typing import Any

from hearth.agent.v1 import memory_pb2
from hearth.storage.v1 import memory_store_pb2, memory_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.identifiers import is_id
from hearth_runtime.memories import (
    MEMORY_CHARACTERS,
    TOPIC_CHARACTERS,
    Memory,
    MemoryScope,
    MemorySubject,
)

from storage_service import arguments
from storage_service.agents import agent_not_found
from storage_service.memories import Memories, MemoryChange, MemoryFilter, NewMemory
from storage_service.memory_vectors import MemoryEmbedding, MemoryVectors, memory_not_found

PAGE_LIMIT = 500
SEARCH_LIMIT = 50
SUBJECTS_LIMIT = 10
# What PostgreSQL's type vector takes at most.
DIMENSIONS_LIMIT = 16_000


class MemoryStoreRpc(memory_store_pb2_grpc.MemoryStoreServiceServicer):
    """The tables `memories` and `embeddings`."""

    def __init__(self, memories: Memories, vectors: MemoryVectors) -> None:
        self._memories = memories
        self._vectors = vectors

    async def KeepMemory(self, request: Any, context: Any) -> memory_store_pb2.KeepMemoryResponse:
        kept = await self._memories.keep(_new_memory(request))
        return memory_store_pb2.KeepMemoryResponse(
            memory=_message(kept.memory), created=kept.created, superseded_ids=kept.superseded_ids
        )

    async def GetMemory(self, request: Any, context: Any) -> memory_store_pb2.GetMemoryResponse:
        return memory_store_pb2.GetMemoryResponse(memory=_message(await self._memories.get(_id(request.id))))

    async def ListMemories(self, request: Any, context: Any) -> memory_store_pb2.ListMemoriesResponse:
        where = arguments.value_of(request, MemoryFilter)
        _agent_id(where.agent_id)
        page = await self._memories.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token, where=where
        )
        return memory_store_pb2.ListMemoriesResponse(
            memories=[_message(memory) for memory in page.items], next_page_token=page.next_token
        )

    async def UpdateMemory(self, request: Any, context: Any) -> memory_store_pb2.UpdateMemoryResponse:
        change = arguments.value_of(request, MemoryChange)
        _id(change.id)
        if (change.content is None) != (change.embedding is None):
            raise arguments.invalid("embedding", "must come with a content, and only then")
        if change.content is not None:
            _content(change.content)
        if change.embedding is not None:
            _embedding(change.embedding)
        if change.topic:
            _topic(change.topic)
        if change.importance is not None:
            _importance(change.importance)
        return memory_store_pb2.UpdateMemoryResponse(memory=_message(await self._memories.update(change)))

    async def DeleteMemory(self, request: Any, context: Any) -> memory_store_pb2.DeleteMemoryResponse:
        await self._memories.delete(_id(request.id))
        return memory_store_pb2.DeleteMemoryResponse()

    async def ForgetMemories(self, request: Any, context: Any) -> memory_store_pb2.ForgetMemoriesResponse:
        count = await self._memories.forget(_agent_id(request.agent_id), _subject(request.subject, "subject"))
        return memory_store_pb2.ForgetMemoriesResponse(forgotten_count=count)

    async def SearchMemories(self, request: Any, context: Any) -> memory_store_pb2.SearchMemoriesResponse:
        if not 1 <= request.limit <= SEARCH_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {SEARCH_LIMIT}")
        found = await self._vectors.search(
            _agent_id(request.agent_id),
            _subjects(request),
            _embedding(arguments.value_of(request.embedding, MemoryEmbedding, "embedding")),
            limit=request.limit,
            is_recall=request.is_recall,
        )
        if not found:
            await self._memories.check_agent(request.agent_id)
        return memory_store_pb2.SearchMemoriesResponse(
            memories=[to_message(memory, memory_pb2.RecalledMemory) for memory in found]
        )

    async def ListUnembeddedMemories(
        self, request: Any, context: Any
    ) -> memory_store_pb2.ListUnembeddedMemoriesResponse:
        found = await self._vectors.unembedded(
            _agent_id(request.agent_id),
            _subjects(request),
            model=arguments.name(request.model, "model"),
            limit=arguments.page_size(request.limit, limit=PAGE_LIMIT),
        )
        return memory_store_pb2.ListUnembeddedMemoriesResponse(memories=[_message(memory) for memory in found])

    async def PutMemoryEmbedding(self, request: Any, context: Any) -> memory_store_pb2.PutMemoryEmbeddingResponse:
        embedding = arguments.value_of(request.embedding, MemoryEmbedding, "embedding")
        await self._vectors.put(_id(request.memory_id), _embedding(embedding))
        return memory_store_pb2.PutMemoryEmbeddingResponse()


def _message(memory: Memory) -> memory_pb2.Memory:
    return to_message(memory, memory_pb2.Memory)


def _id(text: str) -> str:
    if not is_id(text):
        raise memory_not_found(text)
    return text


def _agent_id(text: str) -> str:
    if not is_id(text):
        raise agent_not_found(text)
    return text


def _new_memory(request: Any) -> NewMemory:
    new = arguments.value_of(request, NewMemory)
    arguments.uuid(new.id, "id")
    _agent_id(new.agent_id)
    _subject(request.subject, "subject")
    _content(new.content)
    if new.topic is not None:
        _topic(new.topic)
    _importance(new.importance)
    if new.task_id is not None:
        arguments.uuid(new.task_id, "task_id")
    _embedding(new.embedding)
    return new


def _subjects(request: Any) -> Sequence[MemorySubject]:
    if not 1 <= len(request.subjects) <= SUBJECTS_LIMIT:
        raise arguments.invalid("subjects", f"must be 1 to {SUBJECTS_LIMIT}")
    return [_subject(subject, f"subjects[{n}]") for n, subject in enumerate(request.subjects)]


def _subject(message: memory_pb2.MemorySubject, field: str) -> MemorySubject:
    subject = arguments.value_of(message, MemorySubject, field)
    match subject.scope:
        case MemoryScope.AGENT:
            if subject.subject:
                raise arguments.invalid(f"{field}.subject", "must be empty for the scope agent")
        case MemoryScope.SESSION:
            arguments.uuid(subject.subject, f"{field}.subject")
        case MemoryScope.USER:
            arguments.name(subject.subject, f"{field}.subject")
    return subject


def _content(text: str) -> None:
    if not text.strip() or len(text) > MEMORY_CHARACTERS:
        raise arguments.invalid("content", f"must have 1 to {MEMORY_CHARACTERS} characters")


def _topic(text: str) -> None:
    if not 0 < len(text) <= TOPIC_CHARACTERS:
        raise arguments.invalid("topic", f"must have 1 to {TOPIC_CHARACTERS} characters")


def _importance(value: float) -> None:
    if not 0 <= value <= 1:
        raise arguments.invalid("importance", "must be 0 to 1")


def _embedding(embedding: MemoryEmbedding) -> MemoryEmbedding:
    arguments.name(embedding.model, "embedding.model")
    if not 1 <= len(embedding.values) <= DIMENSIONS_LIMIT:
        raise arguments.invalid("embedding.values", f"must be 1 to {DIMENSIONS_LIMIT}")
    return embedding
