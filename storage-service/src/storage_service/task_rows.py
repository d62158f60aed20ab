"""Rows of the table `tasks` as values."""

from asyncpg import Record
from hearth_runtime.agents import ClientTool
from hearth_runtime.tasks import Task, TaskStatus
from hearth_runtime.telemetry import trace_id_of

# Where the agent names no other.
DEFAULT_MAX_RETRIES = 3


def task_of(row: Record) -> Task:
    """The task that the row holds."""
    return Task(
        id=str(row["id"]),
        agent_id=str(row["agent_id"]),
        session_id=None if row["session_id"] is None else str(row["session_id"]),
        status=TaskStatus(row["status"]),
        input=row["input"],
        output=row["output"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        retry_count=row["retry_count"],
        attempt=row["attempt"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        next_attempt_at=row["next_attempt_at"],
        cancel_requested=row["cancel_requested_at"] is not None,
        parent_task_id=None if row["parent_task_id"] is None else str(row["parent_task_id"]),
        root_task_id=None if row["root_task_id"] is None else str(row["root_task_id"]),
        depth=row["depth"],
        user=row["end_user"],
        queue=row["queue"],
        forked_from_task_id=None if row["forked_from_task_id"] is None else str(row["forked_from_task_id"]),
        replay_of_task_id=None if row["replay_of_task_id"] is None else str(row["replay_of_task_id"]),
        waiting_since=row["waiting_since"],
        tools=tuple(ClientTool.from_json(tool) for tool in row["tools"]),
        owner=row["owner"],
        trace_id=trace_id_of(row["traceparent"]),
    )
