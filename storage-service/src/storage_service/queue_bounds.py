"""How many tasks may wait: the bounds that keep a flood from becoming everybody's wait."""

import asyncio
import time
from collections import Counter

from hearth_runtime.errors import QueueFull
from hearth_runtime.principals import acting_for

from storage_service.database import Database
from storage_service.queries import load_queries

SQL = load_queries("queue")

FRESH_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5.0


class QueueBounds:
    """Counts what waits once a second, and what was added here since: several processes may pass a bound by what the
    others added within that second."""

    def __init__(self, database: Database, *, in_all: int, per_agent: int) -> None:
        self._database = database
        self._in_all = in_all
        self._per_agent = per_agent
        self._waiting: Counter[str] = Counter()
        self._counted_at = -FRESH_SECONDS
        self._counting = asyncio.Lock()

    async def obstacle(self, agent_id: str) -> QueueFull | None:
        """Why no further task of the agent may wait now."""
        await self._count()
        agents = self._waiting[agent_id.lower()]
        if agents >= self._per_agent:
            return _full(f"{agents} tasks of this agent wait already, of {self._per_agent} that may")
        if (total := self._waiting.total()) >= self._in_all:
            return _full(f"{total} tasks wait already, of {self._in_all} that may")
        return None

    def added(self, agent_id: str) -> None:
        """One more waits."""
        self._waiting[agent_id.lower()] += 1

    def removed(self, agent_id: str) -> None:
        """One that was `added` came to nothing."""
        self._waiting[agent_id.lower()] -= 1

    async def _count(self) -> None:
        async with self._counting:
            if time.monotonic() - self._counted_at < FRESH_SECONDS:
                return
            # Of all owners.
            with acting_for(None):
                rows = await self._database.fetch(SQL["count_pending"])
            self._waiting = Counter({str(row["agent_id"]): row["count"] for row in rows})
            self._counted_at = time.monotonic()


def _full(reason: str) -> QueueFull:
    return QueueFull(
        f"{reason}. Try again when some are done, start more workers, or raise HEARTH_QUEUE_LIMIT or "
        "HEARTH_QUEUE_LIMIT_PER_AGENT of storage-service.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
