"""Requests of tasks, as storage-service keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import orjson
from hearth.agent.v1 import task_pb2, task_service_pb2
from hearth.storage.v1 import request_store_pb2, request_store_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.tasks import Pending, Task

from agent_service.tasks import Change


@dataclass(frozen=True, kw_only=True)
class RequestAnswer:
    """What was answered to the pending thing with this id."""

    id: str
    answer: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SubTask:
    """A sub-task that was started, now or by the same call before. `answer` is how it ended."""

    id: str
    created: bool
    agent_name: str
    queue: str
    answer: dict[str, Any] | None


class StoredRequests:
    """The table `task_requests`. What an attempt does raises AttemptOutdated where another has taken over."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = request_store_pb2_grpc.RequestStoreServiceStub(channel)

    async def answer(self, task: Task, call_id: str) -> dict[str, Any] | None:
        """What was answered to the call, None where nothing was yet."""
        request = request_store_pb2.GetAnswerRequest(task_id=task.id, attempt=task.attempt, call_id=call_id)
        answer = await self._stub.GetAnswer(request)
        return orjson.loads(answer.answer) if answer.HasField("answer") else None

    async def start_sub_task(
        self,
        parent: Task,
        *,
        call_id: str,
        sub_task_id: str,
        agent_id: str,
        task_input: dict[str, Any],
        traceparent: str,
    ) -> SubTask:
        """Starts a sub-task, or finds the one that this call made. Raises AgentNotFound, AgentInactive and
        SubTaskRefused."""
        answer = await self._stub.StartSubTask(
            request_store_pb2.StartSubTaskRequest(
                parent_task_id=parent.id,
                attempt=parent.attempt,
                call_id=call_id,
                id=sub_task_id,
                agent_id=agent_id,
                input=orjson.dumps(task_input).decode(),
                traceparent=traceparent,
            )
        )
        return from_message(answer, SubTask)

    async def wait(self, task: Task, pendings: Sequence[Pending]) -> Change:
        """Ends the attempt: the task waits, or is pending where all is answered already, or cancelled."""
        request = request_store_pb2.WaitTaskRequest(
            id=task.id,
            attempt=task.attempt,
            pendings=[to_message(pending, task_pb2.Pending) for pending in pendings],
        )
        return from_message(await self._stub.WaitTask(request), Change)

    async def resume(self, task_id: str, answers: Sequence[RequestAnswer]) -> Task:
        """Keeps the answers. Raises TaskNotFound, TaskNotWaiting, AlreadyAnswered and InvalidArgument."""
        request = request_store_pb2.ResumeTaskRequest(
            id=task_id, answers=[to_message(answer, task_service_pb2.RequestAnswer) for answer in answers]
        )
        return from_message((await self._stub.ResumeTask(request)).task, Task)
