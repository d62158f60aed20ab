"""How an attempt ends: completed, waiting, failed, cancelled or handed over, each kept in the task's row and told of.

Each end gives its name, which is what the attempt's outcome is counted by.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from hearth_runtime.agents import Agent
from hearth_runtime.errors import AttemptOutdated, DeadlineExceeded, HearthError, Unavailable
from hearth_runtime.events import EventLevel
from hearth_runtime.tasks import Pending, Task, TaskStatus, Turn
from loguru import logger
from opentelemetry import trace

from agent_service.agents import DEFAULT_MAX_RETRIES
from agent_service.bell import Bell
from agent_service.checkpointer import Checkpointer
from agent_service.publisher import EventPublisher, RunEvents
from agent_service.request_store import StoredRequests
from agent_service.retries import RetryPolicy
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredTasks
from agent_service.summaries import Summaries
from agent_service.task_tree import TaskTree
from agent_service.tasks import Change, Claim, Wanted

STORE_RETRY_SECONDS = 0.5


class RunEnds:
    """The ends that the attempt of `claim` can come to. Each raises AttemptOutdated where another has taken over.

    What `next_wanted` gives is claimed as the task ends, where it waits, and is given to `run_next` at once: its lease
    runs.
    """

    def __init__(
        self,
        claim: Claim,
        agent: Agent,
        *,
        store: StoredTasks,
        requests: StoredRequests,
        events: RunEvents,
        publisher: EventPublisher,
        bell: Bell,
        summaries: Summaries,
        settings: WorkerSettings,
        next_wanted: Callable[[], Wanted | None],
        run_next: Callable[[Claim], None],
    ) -> None:
        self._next_wanted = next_wanted
        self._run_next = run_next
        self._claim = claim
        self._task = claim.task
        self._agent = agent
        self._store = store
        self._requests = requests
        self._events = events
        self._tree = TaskTree(bell, publisher)
        self._bell = bell
        self._summaries = summaries
        self._retries = RetryPolicy(
            base=timedelta(seconds=settings.retry_base_seconds), cap=timedelta(seconds=settings.retry_cap_seconds)
        )

    async def completed(self, output: dict[str, Any], *, asked: Sequence[Turn], checkpointer: Checkpointer) -> str:
        """The work is done; `asked` are the turns of the input. What `checkpointer` holds back is kept with it."""
        # Redis has all that the run said before the row says that it ended: streams end by the row.
        await self._events.flush()
        new_turns = (*asked, Turn(role="assistant", content=output["text"]))
        await self._change(
            lambda: checkpointer.kept_with(
                lambda held: self._finish(
                    status=TaskStatus.COMPLETED,
                    output=output,
                    new_turns=new_turns if self._task.session_id else (),
                    checkpoints=held,
                )
            )
        )
        if self._task.session_id is not None:
            turns = (*self._claim.session_turns, *new_turns)
            self._summaries.after_run(self._agent, self._task.session_id, turns)
        return "completed"

    async def handed_over(self) -> str:
        """The worker stops, and another goes on."""
        await self._events.log(EventLevel.INFO, "The worker is stopping; another takes over.")
        await self._events.flush()
        released = await self._change(lambda: self._store.release(self._task, is_retry=False))
        if released.status is TaskStatus.CANCELLED:
            return "cancelled"
        await self._bell.ring(self._task.id, queue=self._task.queue)
        return "handed_over"

    async def cancelled(self) -> str:
        """Somebody asked for its end."""
        await self._events.flush()
        await self._change(lambda: self._finish(status=TaskStatus.CANCELLED))
        return "cancelled"

    async def waiting(self, pendings: Sequence[Pending]) -> str:
        """Somebody must answer first."""
        await self._events.flush()
        try:
            task = await self._change(lambda: self._requests.wait(self._task, pendings))
        except AttemptOutdated:
            raise
        except HearthError as error:
            return await self.failed(error)
        if task.status is TaskStatus.PENDING:  # all was answered meanwhile
            await self._bell.ring(task.id, queue=task.queue)
        elif task.status is TaskStatus.WAITING:
            await self._events.waiting(task)
        return "cancelled" if task.status is TaskStatus.CANCELLED else "waiting"

    async def failed(self, error: HearthError) -> str:
        """The attempt failed: it is tried again later where that may help, and else the task ends."""
        config = self._agent.config
        max_retries = DEFAULT_MAX_RETRIES if config.max_retries is None else config.max_retries
        delay = self._retries.delay(error, retries_done=self._task.retry_count, max_retries=max_retries)
        trace.get_current_span().record_exception(error)
        trace.get_current_span().set_status(trace.StatusCode.ERROR, error.code)
        if delay is None:
            await self._events.flush()
            await self._change(
                lambda: self._finish(status=TaskStatus.FAILED, error_code=error.code, error_message=error.detail)
            )
            return "failed"
        await self._events.log(
            EventLevel.WARNING,
            f"Attempt {self._task.attempt} failed: {error.detail} The next begins in {delay.total_seconds():.1f} s.",
            code=error.code,
            delay_seconds=round(delay.total_seconds(), 3),
        )
        await self._events.status("pending", "waiting for the next attempt", retry=self._task.retry_count + 1)
        await self._events.flush()
        released = await self._change(
            lambda: self._store.release(
                self._task, is_retry=True, delay=delay, error_code=error.code, error_message=error.detail
            )
        )
        return "cancelled" if released.status is TaskStatus.CANCELLED else "retried"

    async def _finish(self, **ending: Any) -> Change:
        ended = await self._store.finish(self._task, wanted=self._next_wanted(), **ending)
        if ended.next is not None:
            self._run_next(ended.next)
        return ended

    async def _change(self, write: Callable[[], Awaitable[Change]]) -> Task:
        """The task after the change, whose end is told of and whose tree is followed up."""
        change = await self._store_reliably(write)
        if change.task.status.is_final:
            await self._events.ended(change.task)
        await self._tree.follow(change.affected)
        return change.task

    async def _store_reliably[T](self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeats a write while storage is away: the lease holds meanwhile, or its loss is told as AttemptOutdated."""
        while True:
            try:
                return await write()
            except (Unavailable, DeadlineExceeded) as error:
                logger.warning("the run's end waits for storage", error=error.detail)
                await asyncio.sleep(STORE_RETRY_SECONDS)
