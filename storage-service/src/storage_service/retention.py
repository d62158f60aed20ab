"""Deletes tasks that ended long ago, with all that belongs to them. Off unless HEARTH_RETENTION_DAYS is set.

With a task go its events, attempts, checkpoints, tool calls and requests. Agents, sessions, documents and what agents
remember stay.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth_runtime.errors import Unavailable
from hearth_runtime.lifecycle import pause
from loguru import logger
from opentelemetry.instrumentation.utils import suppress_instrumentation
from prometheus_client import Counter

from storage_service.database import Database
from storage_service.queries import load_queries

SQL = load_queries("retention")

# "retain" in ASCII: whoever has this lock deletes, of any number of storage-services.
LOCK = 0x72657461696E
# What one transaction deletes at most, which is done well within the time of a call.
TASKS_AT_ONCE = 100
EVENTS_AT_ONCE = 5_000
# Between two transactions, so that everybody else's statements get their turn.
BREATH_SECONDS = 0.1

DELETED = Counter("hearth_retention_tasks_total", "Tasks that were deleted since they ended long ago")
DELETED_EVENTS = Counter("hearth_retention_events_total", "Events of such tasks")


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What one transaction deleted. `since` is where the next one goes on, None where there is nothing left to do."""

    tasks: int = 0
    events: int = 0
    since: datetime | None = None


class Retention:
    """What is kept no longer."""

    def __init__(self, database: Database, keep: timedelta) -> None:
        self._database = database
        self._keep = keep

    async def forget(
        self, since: datetime | None = None, *, tasks_at_once: int = TASKS_AT_ONCE, events_at_once: int = EVENTS_AT_ONCE
    ) -> Forgotten:
        """Deletes the oldest tasks that are kept no longer, of those that ended at `since` or later; nothing where
        another storage-service is at it. Of a task with very many events first these, in as many calls as it takes."""
        async with self._database.transaction() as transaction:
            (turn,) = await transaction.fetch(SQL["take_turn"], LOCK)
            if not turn["is_mine"]:
                return Forgotten()
            old = await transaction.fetch(SQL["find_old_tasks"], self._keep, since, tasks_at_once)
            if not old:
                return Forgotten()
            ids = [row["id"] for row in old]
            (events,) = await transaction.fetch(SQL["forget_events"], ids, events_at_once)
            if events["count"] == events_at_once:
                return Forgotten(events=events["count"], since=old[0]["completed_at"])
            await transaction.fetch(SQL["forget_tasks"], ids)
        more = old[-1]["completed_at"] if len(old) == tasks_at_once else None
        return Forgotten(tasks=len(old), events=events["count"], since=more)

    async def run(self, every_seconds: float, stopping: asyncio.Event) -> None:
        """Deletes until told to stop."""
        while not stopping.is_set():
            tasks = await self._sweep(stopping)
            if tasks:
                logger.info("deleted tasks that ended long ago", tasks=tasks)
            await pause(stopping, every_seconds)

    async def _sweep(self, stopping: asyncio.Event) -> int:
        tasks, since = 0, None
        while not stopping.is_set():
            try:
                # Nobody's request caused these statements, so they belong into no trace.
                with suppress_instrumentation():
                    forgotten = await self.forget(since)
            except Unavailable as error:
                logger.debug("old tasks are deleted later", reason=error.detail)
                break
            tasks, since = tasks + forgotten.tasks, forgotten.since
            DELETED.inc(forgotten.tasks)
            DELETED_EVENTS.inc(forgotten.events)
            if since is None:
                break
            await pause(stopping, BREATH_SECONDS)
        return tasks
