"""MemoryService: translates between messages and values, and decides nothing."""

from typing import Any

from hearth.agent.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.memories import MemoryScope, MemorySource, MemorySubject

from agent_service.memories import DEFAULT_IMPORTANCE, Memories
from agent_service.memory_store import StoredMemories


class MemoryRpc(memory_service_pb2_grpc.MemoryServiceServicer):
    """hearth.agent.v1.MemoryService."""

    def __init__(self, memories: Memories, stored: StoredMemories) -> None:
        self._memories = memories
        self._stored = stored

    async def CreateMemory(
        self, request: memory_service_pb2.CreateMemoryRequest, context: Any
    ) -> memory_service_pb2.CreateMemoryResponse:
        kept = await self._memories.keep(
            request.agent_id,
            from_message(request.subject, MemorySubject),
            request.content,
            source=MemorySource.API,
            topic=request.topic if request.HasField("topic") else None,
            importance=request.importance if request.HasField("importance") else DEFAULT_IMPORTANCE,
        )
        return memory_service_pb2.CreateMemoryResponse(
            memory=to_message(kept.memory, memory_pb2.Memory),
            created=kept.created,
            superseded_ids=kept.superseded_ids,
        )

    async def GetMemory(
        self, request: memory_service_pb2.GetMemoryRequest, context: Any
    ) -> memory_service_pb2.GetMemoryResponse:
        memory = await self._stored.get(request.id)
        return memory_service_pb2.GetMemoryResponse(memory=to_message(memory, memory_pb2.Memory))

    async def ListMemories(
        self, request: memory_service_pb2.ListMemoriesRequest, context: Any
    ) -> memory_service_pb2.ListMemoriesResponse:
        scope = memory_pb2.Memory.Scope.Name(request.scope).removeprefix("SCOPE_").lower()
        memories, token = await self._stored.page(
            request.agent_id,
            size=request.page_size,
            token=request.page_token,
            scope=MemoryScope(scope) if request.HasField("scope") else None,
            subject=request.subject if request.HasField("subject") else None,
            contains=request.contains if request.HasField("contains") else None,
            include_superseded=request.include_superseded,
        )
        return memory_service_pb2.ListMemoriesResponse(
            memories=[to_message(m, memory_pb2.Memory) for m in memories], next_page_token=token
        )

    async def UpdateMemory(
        self, request: memory_service_pb2.UpdateMemoryRequest, context: Any
    ) -> memory_service_pb2.UpdateMemoryResponse:
        memory = await self._memories.update(
            request.id,
            content=request.content if request.HasField("content") else None,
            topic=request.topic if request.HasField("topic") else None,
            importance=request.importance if request.HasField("importance") else None,
        )
        return memory_service_pb2.UpdateMemoryResponse(memory=to_message(memory, memory_pb2.Memory))

    async def DeleteMemory(
        self, request: memory_service_pb2.DeleteMemoryRequest, context: Any
    ) -> memory_service_pb2.DeleteMemoryResponse:
        await self._stored.delete(request.id)
        return memory_service_pb2.DeleteMemoryResponse()

    async def ForgetMemories(
        self, request: memory_service_pb2.ForgetMemoriesRequest, context: Any
    ) -> memory_service_pb2.ForgetMemoriesResponse:
        count = await self._stored.forget(request.agent_id, from_message(request.subject, MemorySubject))
        return memory_service_pb2.ForgetMemoriesResponse(forgotten_count=count)

    async def SearchMemories(
        self, request: memory_service_pb2.SearchMemoriesRequest, context: Any
    ) -> memory_service_pb2.SearchMemoriesResponse:
        found = await self._memories.search(
            request.agent_id,
            [from_message(subject, MemorySubject) for subject in request.subjects],
            request.query,
            limit=request.limit,
            is_recall=False,
        )
        return memory_service_pb2.SearchMemoriesResponse(
            memories=[to_message(m, memory_pb2.RecalledMemory) for m in found]
        )
