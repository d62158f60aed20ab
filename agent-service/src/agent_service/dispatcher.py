"""The dispatcher: rings for tasks whose doorbell was never rung, was not heard, or is due again."""

import asyncio
from datetime import timedelta

from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import HearthError, Unavailable
from hearth_runtime.events import StreamId
from hearth_runtime.lifecycle import pause
from hearth_runtime.tasks import DOCUMENTS, RUNS, TaskStatus
from hearth_runtime.telemetry import context_of
from loguru import logger
from opentelemetry import context
from prometheus_client import Counter
from redis.exceptions import RedisError

from agent_service.bell import Bell
from agent_service.settings import ApiSettings
from agent_service.storage import StoredTasks

# By which the clocks of PostgreSQL and of Redis may differ.
CLOCK_SKEW = timedelta(minutes=1)

SWEPT = Counter("hearth_dispatcher_tasks_total", "Tasks that a sweep found due, by what it did", ["action"])


class Dispatcher:
    """Sweeps until stopped. Any number may run: storage gives each due task to one of them.

    `queues` are those that it looks at: those that are named, and those in which anything waited at the last look.
    """

    def __init__(self, store: StoredTasks, bell: Bell, settings: ApiSettings) -> None:
        self._store = store
        self._bell = bell
        self._settings = settings
        self._named = (RUNS, DOCUMENTS, *settings.queue_names)
        self.queues = tuple(dict.fromkeys(self._named))

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks every `sweep_seconds`; at once again while there is more than one look takes."""
        more = False
        while more or not await pause(stopping, self._settings.sweep_seconds):
            more = False
            try:
                more = await self.sweep() and not stopping.is_set()
            except (RedisError, OSError) as error:
                logger.warning("no doorbell rings while Redis is away", error=repr(error))
            except HearthError as error:
                logger.warning("the dispatcher could not look for due tasks", error=error.detail)

    async def sweep(self) -> bool:
        """One look at each queue; tells whether there may be more. Also at those that no setting names any more: what
        was accepted there is not to wait for ever."""
        self.queues = tuple(dict.fromkeys((*self._named, *await self._store.queues())))
        more = [await self._sweep(queue) for queue in self.queues]
        return any(more)

    async def _sweep(self, queue: str) -> bool:
        due, oldest_ring = await self._store.take_due(
            queue=queue,
            limit=self._settings.sweep_limit,
            ring_again_after=timedelta(seconds=self._settings.ring_again_seconds),
            delivered_before=await self._bell.delivered_before(queue),
        )
        for found in due:
            task = found.task
            token = context.attach(context_of(found.traceparent))
            try:
                if task.status is TaskStatus.PENDING:
                    await self._bell.ring(task.id, queue=task.queue)
                    SWEPT.labels("rung").inc()
                elif task.status is TaskStatus.RUNNING:  # a sub-task of one that has ended
                    await self._bell.tell_cancel(task.id)
                    SWEPT.labels("stopped").inc()
                else:  # the outbox tells of its end
                    SWEPT.labels(task.status.value).inc()
                logger.info("found a task due", task_id=task.id, agent_id=task.agent_id, status=task.status.value)
            finally:
                context.detach(token)
        if oldest_ring is not None:
            # Full workers claim without doorbells, which would be left for as long as something waits.
            since = StreamId(int((oldest_ring - CLOCK_SKEW).timestamp() * 1000), 0)
            await self._bell.forget(queue, before=since)
        return len(due) >= self._settings.sweep_limit


def workers_dependency(bell: Bell, dispatcher: Dispatcher) -> Dependency:
    """The workers as a dependency to probe: each queue needs one that serves it."""
    advice = "No worker is running: accepted runs wait. Start one: python -m agent_service.worker"

    async def probe() -> str:
        workers = await bell.workers()
        if not workers:
            raise Unavailable(advice)
        unserved = [queue for queue in dispatcher.queues if not any(queue in served for served in workers)]
        if unserved:
            raise Unavailable(
                f"No worker serves {', '.join(unserved)}: what is accepted there waits. Name it in HEARTH_QUEUES of a "
                f"worker: HEARTH_QUEUES={','.join(unserved)} python -m agent_service.worker"
            )
        return f"{len(workers)} running"

    return Dependency(name="workers", probe=probe, advice=advice, required=False)
