"""The outbox: sees to it that each task's last event, and each that tells of a wait, is published, from its row where
its worker could not."""

import asyncio
from datetime import timedelta

from hearth_runtime.errors import HearthError
from hearth_runtime.lifecycle import pause
from hearth_runtime.tasks import TaskStatus
from loguru import logger
from prometheus_client import Counter

from agent_service.publisher import EventPublisher, RunEvents
from agent_service.settings import ApiSettings
from agent_service.storage import StoredTasks

# Whoever ends a task tells of it at once, and log-service keeps it within this time; only what is older may be missing.
ENDED_BEFORE = timedelta(seconds=2)

SETTLED = Counter("hearth_ends_settled_total", "Ends of tasks whose last event is known to be kept")
PUBLISHED = Counter("hearth_ends_published_total", "Ends of tasks that were published, perhaps again, from their rows")


class Outbox:
    """Drains until stopped. Any number may run, and as often as they like: Redis takes each end once."""

    def __init__(self, store: StoredTasks, publisher: EventPublisher, settings: ApiSettings) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks every `sweep_seconds`; at once again while there is more than one look takes."""
        more = False
        while more or not await pause(stopping, self._settings.sweep_seconds):
            more = False
            try:
                more = await self.drain() and not stopping.is_set()
            except HearthError as error:
                logger.warning("the outbox could not look for ends of tasks", error=error.detail)

    async def drain(self) -> bool:
        """One look; tells whether there may be more. Waits while Redis is away."""
        limit = self._settings.sweep_limit
        unsettled, settled_count = await self._store.settle_ends(limit=limit, ended_before=ENDED_BEFORE)
        for found in unsettled:
            task = found.task
            events = RunEvents(
                self._publisher,
                task_id=task.id,
                agent_id=task.agent_id,
                attempt=task.attempt,
                traceparent=found.traceparent,
                root_task_id=task.root_task_id,
                owner=task.owner,
            )
            if task.status is TaskStatus.WAITING:
                await events.waiting(task)
            else:
                await events.ended(task)
        if unsettled:
            await self._publisher.flush()
        SETTLED.inc(settled_count)
        PUBLISHED.inc(len(unsettled))
        return settled_count == limit
