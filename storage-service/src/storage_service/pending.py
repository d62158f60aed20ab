"""What waiting tasks wait for: the open rows of the table `task_requests`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from asyncpg import Record
from hearth_runtime.tasks import Pending, PendingKind, Task, TaskStatus

from storage_service.database import Database, Transaction
from storage_service.queries import load_queries

SQL = load_queries("requests")


async def with_pending(database: Database | Transaction, tasks: Sequence[Task]) -> list[Task]:
    """The tasks, those that wait with what they wait for."""
    waiting = [task.id for task in tasks if task.status is TaskStatus.WAITING]
    if not waiting:
        return list(tasks)
    pending: dict[str, list[Pending]] = defaultdict(list)
    for row in await database.fetch(SQL["list_open_requests"], waiting):
        pending[str(row["task_id"])].append(_pending(row))
    return [replace(task, pending=tuple(pending[task.id])) if task.id in pending else task for task in tasks]


def _pending(row: Record) -> Pending:
    return Pending(
        id=row["call_id"],
        kind=PendingKind(row["kind"]),
        name=row["name"],
        arguments=row["arguments"],
        default=row["default_answer"],
        task_id=None if row["child_task_id"] is None else str(row["child_task_id"]),
        expires_at=row["expires_at"],
    )
