"""The tables `memories` and `embeddings`, as storage-service keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio
from hearth.agent.v1 import memory_pb2
from hearth.storage.v1 import memory_store_pb2, memory_store_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.memories import Memory, MemoryScope, MemorySource, MemorySubject, RecalledMemory


@dataclass(frozen=True, kw_only=True)
class MemoryEmbedding:
    """A text's vector of a model."""

    model: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class NewMemory:
    """KeepMemoryRequest."""

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
    """UpdateMemoryRequest: None leaves a thing as it is, an empty topic is none."""

    id: str
    content: str | None
    topic: str | None
    importance: float | None
    embedding: MemoryEmbedding | None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of a fact: kept, or known as `memory`; and what it took the place of."""

    memory: Memory
    created: bool
    superseded_ids: tuple[str, ...]


class StoredMemories:
    """The facts. What is asked for by id raises MemoryNotFound."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = memory_store_pb2_grpc.MemoryStoreServiceStub(channel)

    async def keep(self, new: NewMemory) -> Kept:
        """Keeps the fact unless it is known. Raises AgentNotFound, SessionNotFound."""
        return from_message(await self._stub.KeepMemory(to_message(new, memory_store_pb2.KeepMemoryRequest)), Kept)

    async def get(self, memory_id: str) -> Memory:
        answer = await self._stub.GetMemory(memory_store_pb2.GetMemoryRequest(id=memory_id))
        return from_message(answer.memory, Memory)

    async def page(
        self,
        agent_id: str,
        *,
        size: int,
        token: str,
        scope: MemoryScope | None,
        subject: str | None,
        contains: str | None,
        include_superseded: bool,
    ) -> tuple[tuple[Memory, ...], str]:
        """A page of the agent's facts, the newest first, and the next page's token. Raises AgentNotFound."""
        answer = await self._stub.ListMemories(
            memory_store_pb2.ListMemoriesRequest(
                agent_id=agent_id,
                page_size=size,
                page_token=token,
                scope=None if scope is None else memory_pb2.Memory.Scope.Value(f"SCOPE_{scope.name}"),
                subject=subject,
                contains=contains,
                include_superseded=include_superseded,
            )
        )
        return tuple(from_message(m, Memory) for m in answer.memories), answer.next_page_token

    async def update(self, change: MemoryChange) -> Memory:
        """Raises MemoryKnown where another one says the same."""
        answer = await self._stub.UpdateMemory(to_message(change, memory_store_pb2.UpdateMemoryRequest))
        return from_message(answer.memory, Memory)

    async def delete(self, memory_id: str) -> None:
        await self._stub.DeleteMemory(memory_store_pb2.DeleteMemoryRequest(id=memory_id))

    async def forget(self, agent_id: str, subject: MemorySubject) -> int:
        """Forgets all of the subject's; how many that were. Raises AgentNotFound."""
        answer = await self._stub.ForgetMemories(
            memory_store_pb2.ForgetMemoriesRequest(agent_id=agent_id, subject=_message(subject))
        )
        return answer.forgotten_count

    async def search(
        self,
        agent_id: str,
        subjects: Sequence[MemorySubject],
        embedding: MemoryEmbedding,
        *,
        limit: int,
        is_recall: bool,
    ) -> tuple[RecalledMemory, ...]:
        """The facts that answer best, the best first. Raises AgentNotFound."""
        answer = await self._stub.SearchMemories(
            memory_store_pb2.SearchMemoriesRequest(
                agent_id=agent_id,
                subjects=[_message(subject) for subject in subjects],
                embedding=to_message(embedding, memory_store_pb2.MemoryEmbedding),
                limit=limit,
                is_recall=is_recall,
            )
        )
        return tuple(from_message(m, RecalledMemory) for m in answer.memories)

    async def unembedded(
        self, agent_id: str, subjects: Sequence[MemorySubject], *, model: str, limit: int
    ) -> tuple[Memory, ...]:
        """Facts that have no vector of the model yet."""
        answer = await self._stub.ListUnembeddedMemories(
            memory_store_pb2.ListUnembeddedMemoriesRequest(
                agent_id=agent_id, subjects=[_message(subject) for subject in subjects], model=model, limit=limit
            )
        )
        return tuple(from_message(m, Memory) for m in answer.memories)

    async def put_embedding(self, memory_id: str, embedding: MemoryEmbedding) -> None:
        await self._stub.PutMemoryEmbedding(
            memory_store_pb2.PutMemoryEmbeddingRequest(
                memory_id=memory_id, embedding=to_message(embedding, memory_store_pb2.MemoryEmbedding)
            )
        )


def _message(subject: MemorySubject) -> memory_pb2.MemorySubject:
    return to_message(subject, memory_pb2.MemorySubject)
