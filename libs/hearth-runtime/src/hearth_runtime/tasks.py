"""Tasks, as every service knows them: the values of hearth.agent.v1.Task."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hearth_runtime.agents import ClientTool
from hearth_runtime.errors import TaskNotFound

# The queue of the runs of an agent that names none; documents are read in one of their own.
RUNS = "runs"
DOCUMENTS = "documents"


class TaskStatus(StrEnum):
    """The states of a task."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"  # for somebody's answer, with no worker
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows it."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.WAITING)


class PendingKind(StrEnum):
    """What a waiting task waits for."""

    TOOL_CALL = "tool_call"  # a tool in the client's own process
    APPROVAL = "approval"  # of a tool call by a person
    QUESTION = "question"
    TASK = "task"  # another agent's run


@dataclass(frozen=True, kw_only=True)
class Pending:
    """One thing that a waiting task waits for; `id` is the call's, unique within the task.

    After `timeout_seconds` without an answer `default` is taken for it. `task_id` is the run of kind TASK, and
    `expires_at` is known once the task waits.
    """

    id: str
    kind: PendingKind
    name: str
    arguments: dict[str, Any]
    timeout_seconds: float | None = None
    default: dict[str, Any] | None = None
    task_id: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run of an agent, as it is stored."""

    id: str
    agent_id: str
    session_id: str | None
    status: TaskStatus
    input: dict[str, Any]
    output: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    retry_count: int
    attempt: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    next_attempt_at: datetime | None
    cancel_requested: bool
    user: str | None = None
    queue: str = RUNS
    parent_task_id: str | None = None
    root_task_id: str | None = None  # the top of its tree, its own id there; None where there is no tree
    depth: int = 0
    waiting_since: datetime | None = None
    pending: tuple[Pending, ...] = ()  # what it waits for
    tools: tuple[ClientTool, ...] = ()  # of this run, beside its agent's
    forked_from_task_id: str | None = None
    replay_of_task_id: str | None = None
    owner: str = ""  # nobody's where it is empty
    trace_id: str | None = None  # 32 hexadecimal digits; None where nothing was traced when it was accepted

    @property
    def is_new(self) -> bool:
        """Whether no attempt, of its own or of a task that it comes from, has kept anything for it."""
        return self.attempt <= 1 and self.forked_from_task_id is None and self.replay_of_task_id is None


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    HANDED_OVER = "handed_over"
    WORKER_LOST = "worker_lost"
    WAITING = "waiting"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One worker's go at a task; `resumed_from` is the step that it went on with, where others were finished."""

    attempt: int
    worker_id: str
    started_at: datetime
    ended_at: datetime | None
    outcome: AttemptOutcome | None
    error_code: str | None
    error_message: str | None
    resumed_from: str | None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str


def task_not_found(task_id: str) -> TaskNotFound:
    """The error for an id that no task has that the caller may see."""
    return TaskNotFound(
        f"There is no task {task_id}. GET /api/v1/tasks lists those that there are.", metadata={"task_id": task_id}
    )
