"""Whether a task has ended, by its row, and up to where its events go."""

import asyncio
import time
from dataclasses import dataclass

from hearth_runtime.deadlines import detached
from hearth_runtime.events import StreamId
from hearth_runtime.principals import Principal, current_principal
from hearth_runtime.tasks import TaskStatus

from log_service.storage import StoredTasks
from log_service.tail import Tail

# Answers older than this are forgotten.
FORGET_SECONDS = 5.0
FORGET_OVER = 1000


@dataclass(frozen=True, kw_only=True)
class TaskEnd:
    """The task is final, and when that was seen, its events in Redis went up to `last_place` at most."""

    status: TaskStatus
    is_settled: bool  # its last event was in Redis then
    last_place: StreamId


@dataclass(frozen=True, kw_only=True)
class _Look:
    begun: float
    answer: asyncio.Task[TaskEnd | None]


class TaskEnds:
    """Reads rows for all subscribers together: those who ask at about the same time share one answer."""

    def __init__(self, tasks: StoredTasks, tail: Tail) -> None:
        self._tasks = tasks
        self._tail = tail
        self._looks: dict[tuple[str, Principal | None], _Look] = {}

    async def look(self, task_id: str, *, since: float) -> TaskEnd | None:
        """The task's end, or None while it goes on, as of `since` (time.monotonic()) or later.

        Raises TaskNotFound, what calling storage-service raises, and RedisError or OSError.
        """
        # Not everybody gets the same answer.
        key = task_id, current_principal()
        look = self._looks.get(key)
        if look is None or look.begun < since:
            self._forget()
            look = _Look(begun=time.monotonic(), answer=asyncio.create_task(self._ask(task_id), context=detached()))
            # Whoever asked may be gone when it fails.
            look.answer.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._looks[key] = look
        return await asyncio.shield(look.answer)

    async def _ask(self, task_id: str) -> TaskEnd | None:
        state = await self._tasks.state(task_id)
        if not state.status.is_final:
            return None
        # Asked after the row was seen: what its worker published before it wrote the row is there.
        last_place = await self._tail.latest()
        return TaskEnd(status=state.status, is_settled=state.end_settled, last_place=last_place)

    def _forget(self) -> None:
        if len(self._looks) >= FORGET_OVER:
            oldest = time.monotonic() - FORGET_SECONDS
            self._looks = {k: v for k, v in self._looks.items() if v.begun >= oldest or not v.answer.done()}
