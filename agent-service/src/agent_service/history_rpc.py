"""HistoryService: translates between messages and values, and decides nothing."""

from typing import Any

from hearth.agent.v1 import history_service_pb2, history_service_pb2_grpc, task_pb2
from hearth_runtime.codec import from_message, to_message

from agent_service.time_travel import ForkRequest, TimeTravel


class HistoryRpc(history_service_pb2_grpc.HistoryServiceServicer):
    """hearth.agent.v1.HistoryService."""

    def __init__(self, time_travel: TimeTravel) -> None:
        self._time_travel = time_travel

    async def ListCheckpoints(
        self, request: history_service_pb2.ListCheckpointsRequest, context: Any
    ) -> history_service_pb2.ListCheckpointsResponse:
        checkpoints, token = await self._time_travel.list(
            request.task_id, size=request.page_size, token=request.page_token
        )
        return history_service_pb2.ListCheckpointsResponse(
            checkpoints=[to_message(c, history_service_pb2.TaskCheckpoint) for c in checkpoints], next_page_token=token
        )

    async def ForkTask(
        self, request: history_service_pb2.ForkTaskRequest, context: Any
    ) -> history_service_pb2.ForkTaskResponse:
        task = await self._time_travel.fork(from_message(request, ForkRequest))
        return history_service_pb2.ForkTaskResponse(task=to_message(task, task_pb2.Task))

    async def ReplayTask(
        self, request: history_service_pb2.ReplayTaskRequest, context: Any
    ) -> history_service_pb2.ReplayTaskResponse:
        task = await self._time_travel.replay(
            request.task_id,
            idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
        )
        return history_service_pb2.ReplayTaskResponse(task=to_message(task, task_pb2.Task))
