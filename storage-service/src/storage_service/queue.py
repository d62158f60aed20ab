"""The queue: the tasks that have not ended, and whose doorbell must ring."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth_runtime.tasks import RUNS, TaskStatus

from storage_service.database import Database
from storage_service.pending import with_pending
from storage_service.queries import load_queries
from storage_service.task_rows import task_of
from storage_service.trees import AffectedTask, affected, answer_by_default, lock_tree, settle_tree

SQL = load_queries("queue")
TREES_SQL = load_queries("trees")

WORKER_LOST = "worker_lost"
WORKER_LOST_MESSAGE = "The worker that ran this stopped answering."


@dataclass(frozen=True, kw_only=True)
class QueueStats:
    """Tasks that have not ended, and how long the one that has been due the longest waits."""

    pending: int
    running: int
    waiting: int
    oldest_pending: timedelta


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """How many tasks wait in a queue, and how long the one that has been due the longest does."""

    queue: str
    pending: int
    oldest_seconds: float


class Queue:
    """The queue of tasks, which is several: each agent's tasks wait in the one that it names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take_due(
        self, *, queue: str, limit: int, ring_again_after: timedelta, delivered_before: datetime | None
    ) -> tuple[Sequence[AffectedTask], datetime | None]:
        """At most `limit` tasks of the queue whose doorbell must ring, each for this caller alone; and those of it
        that ended because their worker was lost. What is out of step in trees comes beside them. And when the first
        doorbell rang of those whose tasks wait."""
        rows = await self._database.fetch(
            SQL["take_due_tasks"], limit, ring_again_after, delivered_before, WORKER_LOST, WORKER_LOST_MESSAGE, queue
        )
        (oldest,) = await self._database.fetch(SQL["oldest_ring"], queue)
        # Once in a sweep, which always looks at this queue; trees may lie across several.
        return [*map(affected, rows), *(await self._into_step(limit) if queue == RUNS else ())], oldest["at"]

    async def _into_step(self, limit: int) -> Sequence[AffectedTask]:
        """Tasks that go on, or are cancelled, since the time for an answer is over, or a sub-task or parent ended."""
        changed: list[AffectedTask] = []
        for row in await self._database.fetch(TREES_SQL["find_out_of_step"], limit):
            async with self._database.transaction() as transaction:
                tree_id = await lock_tree(transaction, str(row["task_id"]))
                if tree_id is not None:
                    await answer_by_default(transaction, str(row["task_id"]))
                    changed += await settle_tree(transaction, tree_id)
        return changed

    async def settle_ends(self, *, limit: int, ended_before: timedelta) -> tuple[Sequence[AffectedTask], int]:
        """Looks at so many tasks that ended, or began to wait, so long ago, the oldest first: those whose last event is
        not kept yet, and how many are settled now."""
        rows = await self._database.fetch(SQL["settle_ends"], limit, ended_before)
        unsettled = [row for row in rows if not row["is_settled"]]
        tasks = await with_pending(self._database, [task_of(row) for row in unsettled])
        ends = [
            AffectedTask(task=task, traceparent=row["traceparent"]) for task, row in zip(tasks, unsettled, strict=True)
        ]
        return ends, len(rows) - len(unsettled)

    async def stats(self) -> QueueStats:
        """How long the queue is, in tasks and in time."""
        (row,) = await self._database.fetch(SQL["queue_stats"])
        return QueueStats(
            pending=row["pending"],
            running=row["running"],
            waiting=row["waiting"],
            oldest_pending=row["oldest_pending"] or timedelta(),
        )

    async def names(self) -> tuple[str, ...]:
        """The queues in which tasks wait for a worker or run."""
        return tuple(row["queue"] for row in await self._database.fetch(SQL["list_queues"]))

    async def depths(self) -> tuple[QueueDepth, ...]:
        """What waits in each queue in which anything does."""
        rows = await self._database.fetch(SQL["queue_depths"])
        return tuple(
            QueueDepth(queue=row["queue"], pending=row["pending"], oldest_seconds=row["oldest_seconds"]) for row in rows
        )

    async def count_by_status(self) -> dict[TaskStatus, int]:
        """How many tasks there are in each state. Reads an index from end to end."""
        rows = await self._database.fetch(SQL["count_by_status"])
        return dict.fromkeys(TaskStatus, 0) | {TaskStatus(row["status"]): row["count"] for row in rows}
