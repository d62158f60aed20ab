"""The outbox: tells subscribers of each task's end, from its row, where its worker could not."""

import asyncio
from datetime import timedelta

from hearth_runtime.errors import HearthError
from hearth_runtime.lifecycle import pause
from loguru import logger
from prometheus_client import Counter

from agent_service.publisher import EventPublisher, RunEvents
from agent_service.settings import ApiSettings
from agent_service.storage import StoredTasks

# Whoever ends a task tells of it at once; only what is older may have been missed.
ENDED_BEFORE = timedelta(seconds=1)

CONFIRMED = Counter("hearth_ends_confirmed_total", "Ends of tasks that the event stream is known to have")


class Outbox:
    """Drains until stopped. Any number may run: Redis takes each end once."""

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
        ended = await self._store.unpublished_ends(limit=limit, ended_before=ENDED_BEFORE)
        for found in ended:
            task = found.task
            events = RunEvents(
                self._publisher,
                task_id=task.id,
                agent_id=task.agent_id,
                attempt=task.attempt,
                traceparent=found.traceparent,
            )
            await events.ended(task)
        if ended:
            await self._publisher.flush()
            await self._store.confirm_ends([found.task for found in ended])
            CONFIRMED.inc(len(ended))
        return len(ended) == limit
