"""Whether tasks have ended, by their rows, and up to where their events go."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hearth_runtime.deadlines import detached
from hearth_runtime.events import StreamId
from hearth_runtime.principals import Principal, current_principal
from hearth_runtime.tasks import TaskStatus, task_not_found

from log_service.storage import STATES_LIMIT, StoredTasks
from log_service.tail import Tail

# From a call to the next, for each caller's tasks: of many streams, those that ask meanwhile ask together.
PACE_SECONDS = 0.02
# Answers older than this are forgotten, now and then.
FORGET_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class TaskEnd:
    """The task is final, and when that was seen, its events in Redis went up to `last_place` at most."""

    status: TaskStatus
    is_settled: bool  # its last event was in Redis then
    last_place: StreamId


class _Look:
    """A look at the rows of several tasks, which others may join until it has begun."""

    def __init__(self) -> None:
        self.task_ids: set[str] = set()
        self.begun = math.inf  # by time.monotonic()
        # Of each task that is there its end, or None while it goes on.
        self.answer: asyncio.Task[Mapping[str, TaskEnd | None]]

    @property
    def is_open(self) -> bool:
        return self.begun == math.inf and len(self.task_ids) < STATES_LIMIT


class TaskEnds:
    """Reads rows for all subscribers together: those who ask at about the same time share one answer, and what is asked
    while a call is under way goes with the next."""

    def __init__(self, tasks: StoredTasks, tail: Tail) -> None:
        self._tasks = tasks
        self._tail = tail
        # Not everybody gets the same answer.
        self._looks: dict[tuple[str, Principal | None], _Look] = {}
        self._last: dict[Principal | None, _Look] = {}
        self._forgotten_at = time.monotonic()

    async def look(self, task_id: str, *, since: float) -> TaskEnd | None:
        """The task's end, or None while it goes on, as of `since` (time.monotonic()) or later.

        Raises TaskNotFound, what calling storage-service raises, and RedisError or OSError.
        """
        key = task_id, current_principal()
        look = self._looks.get(key)
        if look is None or look.begun < since:
            self._forget()
            look = self._looks[key] = self._next()
            look.task_ids.add(task_id)
        ends = await asyncio.shield(look.answer)
        if task_id not in ends:
            raise task_not_found(task_id)
        return ends[task_id]

    def _next(self) -> _Look:
        """The caller's next look, which tasks may join."""
        principal = current_principal()
        last = self._last.get(principal)
        if last is not None and last.is_open:
            return last
        look = self._last[principal] = _Look()
        look.answer = asyncio.create_task(self._ask(look, after=last), context=detached())

        def is_over(answer: asyncio.Task[Mapping[str, TaskEnd | None]]) -> None:
            if not answer.cancelled():
                answer.exception()  # whoever asked may be gone when it fails
            asyncio.get_running_loop().call_later(PACE_SECONDS, self._leave, principal, look)

        look.answer.add_done_callback(is_over)
        return look

    def _leave(self, principal: Principal | None, look: _Look) -> None:
        if self._last.get(principal) is look:
            del self._last[principal]

    async def _ask(self, look: _Look, *, after: _Look | None) -> Mapping[str, TaskEnd | None]:
        if after is not None:
            await asyncio.wait([after.answer])
            await asyncio.sleep(after.begun + PACE_SECONDS - time.monotonic())
        look.begun = time.monotonic()
        states = await self._tasks.states(look.task_ids)
        ends: dict[str, TaskEnd | None] = dict.fromkeys(states)
        final = [state for state in states.values() if state.status.is_final]
        if final:
            # Asked after the rows were seen: what their workers published before they wrote them is there.
            last_place = await self._tail.latest()
            for state in final:
                ends[state.id] = TaskEnd(status=state.status, is_settled=state.end_settled, last_place=last_place)
        return ends

    def _forget(self) -> None:
        oldest = time.monotonic() - FORGET_SECONDS
        if self._forgotten_at < oldest:
            self._forgotten_at = time.monotonic()
            self._looks = {
                key: look for key, look in self._looks.items() if look.begun >= oldest or not look.answer.done()
            }
