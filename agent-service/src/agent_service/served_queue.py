"""A queue as a worker serves it: doorbells that are heard, tasks that are claimed, and the places that both take."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import HearthError, NoTaskWaits
from loguru import logger
from redis.exceptions import RedisError

from agent_service.bell import Bell, Doorbell
from agent_service.storage import StoredTasks
from agent_service.tasks import Claim, Wanted

# Where many tasks come at once, what runs already comes to its tokens between the beginnings of the others.
CLAIMS_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Heard:
    """A doorbell that waits for its claim, which is made in the context that it came in."""

    doorbell: Doorbell
    context: Context


class ServedQueue:
    """Claims what is wanted, for each doorbell one task, and has it run.

    A doorbell that is heard takes a place, and then the run that it brought.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        places: int,
        store: StoredTasks,
        bell: Bell,
        run: Callable[[Claim], Coroutine[Any, Any, None]],
    ) -> None:
        self._wanted = wanted
        self._places = places
        self._store = store
        self._bell = bell
        self._run = run
        self._taken = 0
        self._heard: deque[_Heard] = deque()
        self._claiming = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._context = copy_context()
        self._changed = asyncio.Event()
        self._stopping = False

    async def hear(self, doorbell: Doorbell) -> None:
        """Has a task claimed and run; returns when there is room for another one.

        While it has not returned no further doorbell is read, so that one is heard by a worker with room.
        """
        if self._stopping:
            await self._pass_on([doorbell])
            return
        self._taken += 1
        self._heard.append(_Heard(doorbell=doorbell, context=copy_context()))
        if self._claiming < CLAIMS_AT_ONCE:
            self._claiming += 1
            self._start(self._claim_in_turn())
        while self._is_full and not self._stopping:
            self._changed.clear()
            await self._changed.wait()

    def next_wanted(self) -> Wanted | None:
        """What to claim with the end of a run, where doorbells wait for their claims or all places are taken:
        docs/adr/0017-a-full-worker-claims-as-it-finishes.md."""
        is_behind = self._heard or self._is_full
        return self._wanted if is_behind and not self._stopping else None

    def run_next(self, claim: Claim) -> None:
        """Runs what was claimed with an end, while that run comes to its own."""
        self._taken += 1
        self._run_claimed(claim)

    async def stop(self) -> None:
        """Claims no more, and passes on the doorbells that wait; returns when nothing runs any more."""
        self._stopping = True
        self._changed.set()
        await self._pass_on(self._forget(self._heard))
        while self._under_way:  # a claim that was asked for before may bring another run
            await asyncio.wait(self._under_way)

    @property
    def _is_full(self) -> bool:
        return self._taken >= self._places

    def _leave_places(self, count: int = 1) -> None:
        self._taken -= count
        self._changed.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Not in the context of the run that may be ending here, nor in that of one doorbell.
        task = asyncio.create_task(work, context=self._context.copy())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def _run_claimed(self, claim: Claim) -> None:
        self._start(self._run(claim)).add_done_callback(lambda _: self._leave_places())

    async def _claim_in_turn(self) -> None:
        try:
            while self._heard:
                heard, claim = self._heard.popleft(), None
                try:
                    claim = await asyncio.create_task(self._claimed(heard.doorbell), context=heard.context)
                finally:
                    if claim is None:
                        self._leave_places()
                if claim is not None:
                    self._run_claimed(claim)
        finally:
            self._claiming -= 1

    async def _claimed(self, doorbell: Doorbell) -> Claim | None:
        # Which task it is, storage decides: agents take turns.
        try:
            with suppress(NoTaskWaits):
                return await self._store.claim(self._wanted)
            logger.debug("nothing to do for a doorbell", task_id=doorbell.task_id)
            # Its task was claimed with another one's end; and so were those of all that rang before a look in vain.
            newest, heard = await self._bell.newest(self._wanted.queue), tuple(self._heard)
            with suppress(NoTaskWaits):
                return await self._store.claim(self._wanted)
            self._forget(heard)
            if newest is not None:
                await self._bell.forget(self._wanted.queue, before=newest.after())
        except HearthError as error:
            logger.warning("no task could be claimed; the doorbell rings again", error=error.detail)
            self._forget(self._heard)  # each would wait as long, to hear the same
        except (RedisError, OSError) as error:
            logger.warning("doorbells could not be looked at", error=repr(error))
        return None

    def _forget(self, heard: Iterable[_Heard]) -> list[Doorbell]:
        """Those that still wait, which take no places any more."""
        given = set(heard)
        forgotten = [one for one in self._heard if one in given]
        self._heard = deque(one for one in self._heard if one not in given)
        self._leave_places(len(forgotten))
        return [one.doorbell for one in forgotten]

    async def _pass_on(self, doorbells: Iterable[Doorbell]) -> None:
        """Rings for another worker."""
        queue = self._wanted.queue
        await asyncio.gather(*(self._bell.ring(doorbell.task_id, queue=queue) for doorbell in doorbells))
