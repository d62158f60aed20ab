"""Trees of tasks: what an end, a cancel or an answer changes in the tasks above and below. The table `task_requests`.

A task with sub-tasks, and all of them down the tree, change under one advisory lock, taken before any row's, so that
two sub-tasks that end at once never both leave it to the other to wake their parent.
"""

from dataclasses import dataclass, replace

from asyncpg import Record
from hearth_runtime.tasks import Task

from storage_service.database import Transaction
from storage_service.queries import load_queries
from storage_service.task_rows import task_of

SQL = load_queries("trees")


@dataclass(frozen=True, kw_only=True)
class AffectedTask:
    """A task that is pending and whose doorbell must ring, that has ended, or that is running and must be told to stop;
    its input and output are left out."""

    task: Task
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A task after a change, and what else of its tree changed with it."""

    task: Task
    affected: tuple[AffectedTask, ...]


async def lock_tree(transaction: Transaction, task_id: str) -> str | None:
    """Keeps the tree of the task for this transaction; the id of its top, None where there is no such task."""
    row = await transaction.fetchrow(SQL["lock_tree"], task_id)
    return None if row is None else str(row["tree_id"])


async def settle_tree(transaction: Transaction, tree_id: str) -> tuple[AffectedTask, ...]:
    """Makes the tree, which is locked, consistent after a change: no sub-task outlives what asked for it, each that has
    ended is an answer, and what has all its answers goes on. Gives what changed."""
    cancelled = await transaction.fetch(SQL["cancel_orphans"], tree_id)
    await transaction.fetchrow(SQL["answer_by_ended"], tree_id)
    await transaction.fetchrow(SQL["drop_requests_of_ended"], tree_id)
    woken = await transaction.fetch(SQL["wake_answered"], tree_id)
    return tuple(affected(row) for row in (*cancelled, *woken))


async def answer_by_default(transaction: Transaction, task_id: str) -> None:
    """Answers what the task has waited for too long."""
    await transaction.fetchrow(SQL["answer_by_default"], task_id)


def affected(row: Record) -> AffectedTask:
    """The task that the row holds, without what a doorbell does not need."""
    return AffectedTask(task=replace(task_of(row), input={}, output=None, tools=()), traceparent=row["traceparent"])
