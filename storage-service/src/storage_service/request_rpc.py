"""The RPCs of requests: messages to values and back. Only whether a request is valid is decided here."""

from typing import Any

import orjson
from hearth.agent.v1 import task_pb2
from hearth.storage.v1 import request_store_pb2, request_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.identifiers import is_id
from hearth_runtime.tasks import Pending, PendingKind, task_not_found

from storage_service import arguments
from storage_service.requests import NewSubTask, RequestAnswer, Requests

REQUESTS_LIMIT = 100


class RequestStoreRpc(request_store_pb2_grpc.RequestStoreServiceServicer):
    """The table `task_requests`."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def GetAnswer(self, request: Any, context: Any) -> request_store_pb2.GetAnswerResponse:
        answer = await self._requests.answer(
            arguments.uuid(request.task_id, "task_id"), request.attempt, arguments.name(request.call_id, "call_id")
        )
        return request_store_pb2.GetAnswerResponse(answer=None if answer is None else orjson.dumps(answer).decode())

    async def StartSubTask(self, request: Any, context: Any) -> request_store_pb2.StartSubTaskResponse:
        new = arguments.value_of(request, NewSubTask)
        for field in ("parent_task_id", "id", "agent_id"):
            arguments.uuid(getattr(new, field), field)
        arguments.name(new.call_id, "call_id")
        arguments.json_object(new.input, "input")
        return to_message(await self._requests.start_sub_task(new), request_store_pb2.StartSubTaskResponse)

    async def WaitTask(self, request: Any, context: Any) -> request_store_pb2.WaitTaskResponse:
        if not 1 <= len(request.pendings) <= REQUESTS_LIMIT:
            raise arguments.invalid("pendings", f"must be 1 to {REQUESTS_LIMIT}")
        pendings = [_pending(pending, f"pendings[{place}]") for place, pending in enumerate(request.pendings)]
        change = await self._requests.wait(arguments.uuid(request.id, "id"), request.attempt, pendings)
        return to_message(change, request_store_pb2.WaitTaskResponse)

    async def ResumeTask(self, request: Any, context: Any) -> request_store_pb2.ResumeTaskResponse:
        if not is_id(request.id):
            raise task_not_found(request.id)
        if not 1 <= len(request.answers) <= REQUESTS_LIMIT:
            raise arguments.invalid("results", f"must be 1 to {REQUESTS_LIMIT}")
        answers = [
            arguments.value_of(answer, RequestAnswer, f"results[{place}]")
            for place, answer in enumerate(request.answers)
        ]
        if len({answer.id for answer in answers}) < len(answers):
            raise arguments.invalid("results", "must name each id once")
        for place, answer in enumerate(answers):
            arguments.json_object(answer.answer, f"results[{place}]")
        task = await self._requests.resume(request.id, answers)
        return request_store_pb2.ResumeTaskResponse(task=to_message(task, task_pb2.Task))


def _pending(message: task_pb2.Pending, field: str) -> Pending:
    pending = arguments.value_of(message, Pending, field)
    arguments.name(pending.id, f"{field}.id")
    arguments.name(pending.name, f"{field}.name")
    arguments.json_object(pending.arguments, f"{field}.arguments")
    if pending.default is not None:
        arguments.json_object(pending.default, f"{field}.default")
    seconds = pending.timeout_seconds
    if seconds is not None and not 0 < seconds <= arguments.SPAN_LIMIT.total_seconds():
        raise arguments.invalid(f"{field}.timeout_seconds", "must be more than 0 and at most 30 days")
    if (pending.kind is PendingKind.TASK) != (pending.task_id is not None):
        raise arguments.invalid(f"{field}.task_id", "must be there for a sub-task alone")
    return pending
