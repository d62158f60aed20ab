"""The RPCs of histories: requests to values and back. Only whether a request is valid is decided here."""

from typing import Any

from hearth.agent.v1 import task_pb2
from hearth.storage.v1 import history_store_pb2, history_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.identifiers import is_id
from hearth_runtime.tasks import task_not_found

from storage_service import arguments
from storage_service.histories import Fork, Histories, Replay

PAGE_LIMIT = 500


class HistoryStoreRpc(history_store_pb2_grpc.HistoryStoreServiceServicer):
    """What is kept of how tasks were run."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    async def ListSavedCheckpoints(self, request: Any, context: Any) -> history_store_pb2.ListSavedCheckpointsResponse:
        page = await self._histories.checkpoints(
            _task_id(request.task_id),
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
        )
        return history_store_pb2.ListSavedCheckpointsResponse(
            checkpoints=[to_message(saved, history_store_pb2.SavedCheckpoint) for saved in page.items],
            next_page_token=page.next_token,
        )

    async def ListRecordedCalls(self, request: Any, context: Any) -> history_store_pb2.ListRecordedCallsResponse:
        page = await self._histories.calls(
            _task_id(request.task_id),
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
        )
        return history_store_pb2.ListRecordedCallsResponse(
            calls=[to_message(call, history_store_pb2.RecordedCall) for call in page.items],
            next_page_token=page.next_token,
        )

    async def ForkTask(self, request: Any, context: Any) -> history_store_pb2.ForkTaskResponse:
        fork = arguments.value_of(request, Fork)
        _check(fork)
        if fork.input is not None:
            arguments.json_object(fork.input, "input")
        arguments.json_object(fork.answers, "answers")
        task, created = await self._histories.fork(fork)
        return history_store_pb2.ForkTaskResponse(task=to_message(task, task_pb2.Task), created=created)

    async def ReplayTask(self, request: Any, context: Any) -> history_store_pb2.ReplayTaskResponse:
        replay = arguments.value_of(request, Replay)
        _check(replay)
        task, created = await self._histories.replay(replay)
        return history_store_pb2.ReplayTaskResponse(task=to_message(task, task_pb2.Task), created=created)


def _task_id(text: str) -> str:
    if not is_id(text):
        raise task_not_found(text)
    return text


def _check(new: Fork | Replay) -> None:
    arguments.uuid(new.id, "id")
    _task_id(new.task_id)
    if new.idempotency_key is not None:
        arguments.name(new.idempotency_key, "idempotency_key")
