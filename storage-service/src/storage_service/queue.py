"""The queue: the tasks that have not ended, and whose doorbell must ring."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth_runtime.tasks import Task, TaskStatus

from storage_service.database import Database
from storage_service.queries import load_queries
from storage_service.tasks import task_of

SQL = load_queries("queue")

WORKER_LOST = "worker_lost"
WORKER_LOST_MESSAGE = "The worker that ran this stopped answering."


@dataclass(frozen=True, kw_only=True)
class DueTask:
    """A task whose doorbell must ring, or that has ended; its input and output are left out."""

    task: Task
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class QueueStats:
    """Tasks that have not ended, and how long the one that has been due the longest waits."""

    pending: int
    running: int
    oldest_pending: timedelta


class Queue:
    """The queue of tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_due(
        self, *, queue: str, limit: int, ring_again_after: timedelta, delivered_before: datetime | None
    ) -> Sequence[DueTask]:
        """At most `limit` tasks of the queue whose doorbell must ring, each for this caller alone; and those of it
        that ended because their worker was lost."""
        rows = await self._database.fetch(
            SQL["take_due_tasks"], limit, ring_again_after, delivered_before, WORKER_LOST, WORKER_LOST_MESSAGE, queue
        )
        return [DueTask(task=task_of(row), traceparent=row["traceparent"]) for row in rows]

    async def settle_ends(self, *, limit: int, ended_before: timedelta) -> tuple[Sequence[DueTask], int]:
        """Looks at so many tasks that ended so long ago, the oldest first: those whose last event is not kept yet, and
        how many are settled now."""
        rows = await self._database.fetch(SQL["settle_ends"], limit, ended_before)
        unsettled = [row for row in rows if not row["is_settled"]]
        ends = [DueTask(task=task_of(row), traceparent=row["traceparent"]) for row in unsettled]
        return ends, len(rows) - len(unsettled)

    async def stats(self) -> QueueStats:
        """How long the queue is, in tasks and in time."""
        (row,) = await self._database.fetch(SQL["queue_stats"])
        return QueueStats(
            pending=row["pending"], running=row["running"], oldest_pending=row["oldest_pending"] or timedelta()
        )

    async def count_by_status(self) -> dict[TaskStatus, int]:
        """How many tasks there are in each state. Reads an index from end to end."""
        rows = await self._database.fetch(SQL["count_by_status"])
        return dict.fromkeys(TaskStatus, 0) | {TaskStatus(row["status"]): row["count"] for row in rows}
