"""Tasks are stored together: what comes while others are being stored goes with the next call.

A client that is alone is not kept waiting for company. Where many come at once, each costs a share of a call and of a
commit.
"""

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.rpc import status_pb2
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.deadlines import bounded, detached
from hearth_runtime.errors import HearthError, Unavailable, from_status
from hearth_runtime.principals import Principal, current_principal

if TYPE_CHECKING:
    from hearth.storage.v1.task_store_pb2_grpc import TaskStoreServiceAsyncStub

# In one call; a larger task goes by itself.
TASKS, BYTES = 50, 1024 * 1024

AWAY = "The storage service does not answer. Try again; GET /health shows what is down."

type Answer = task_store_pb2.CreateTaskResponse


@dataclass
class _Creation:
    request: task_store_pb2.CreateTaskRequest
    answer: asyncio.Future[Answer]
    context: Context


@dataclass
class _Line:
    """The tasks that wait to be stored for one owner."""

    waiting: deque[_Creation] = field(default_factory=deque)
    sending: asyncio.Task[None] | None = None

    def take(self) -> list[_Creation]:
        """Those that go next, together, without those that nobody waits for any more."""
        taken: list[_Creation] = []
        size = 0
        while self.waiting and len(taken) < TASKS:
            if not self.waiting[0].answer.done():
                size += self.waiting[0].request.ByteSize()
                if taken and size > BYTES:
                    break
                taken.append(self.waiting[0])
            self.waiting.popleft()
        return taken


class Creations:
    """Stores tasks: of each owner in the order in which they come, one call at a time."""

    def __init__(self, stub: "TaskStoreServiceAsyncStub") -> None:
        self._stub = stub
        self._lines: dict[Principal | None, _Line] = {}

    async def create(self, request: task_store_pb2.CreateTaskRequest) -> Answer:
        """Stores one. Raises the errors of CreateTasks."""
        seconds, principal = bounded(None), current_principal()
        line = self._lines.setdefault(principal, _Line())
        creation = _Creation(request, asyncio.get_running_loop().create_future(), detached())
        line.waiting.append(creation)
        if line.sending is None:
            self._go_on(principal, line)
        try:
            async with asyncio.timeout(seconds):
                return await creation.answer
        except TimeoutError:
            raise Unavailable(AWAY) from None

    def _go_on(self, principal: Principal | None, line: _Line) -> None:
        """Sends what waits, in the context of what came first."""
        if line.waiting:
            line.sending = asyncio.create_task(self._send(principal, line), context=line.waiting[0].context)
        else:
            del self._lines[principal]

    async def _send(self, principal: Principal | None, line: _Line) -> None:
        taken = line.take()
        answers: list[Answer | HearthError] = [Unavailable(AWAY)] * len(taken)
        try:
            if taken:
                request = task_store_pb2.CreateTasksRequest(tasks=[creation.request for creation in taken])
                answers = [_error_of(task) or task for task in (await self._stub.CreateTasks(request)).tasks]
        except HearthError as error:
            answers = [error] * len(taken)
        finally:
            for creation, answer in zip(taken, answers, strict=True):
                _answer(creation.answer, answer)
            self._go_on(principal, line)


def _answer(waiting: asyncio.Future[Answer], answer: Answer | HearthError) -> None:
    if waiting.done():  # nobody waits for it any more
        return
    if isinstance(answer, HearthError):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def _error_of(task: Answer) -> HearthError | None:
    return from_status(status_pb2.Status.FromString(task.error)) if task.error else None
