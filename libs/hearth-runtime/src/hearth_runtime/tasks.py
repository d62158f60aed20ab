"""Tasks, as every service knows them: the values of hearth.agent.v1.Task."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class TaskStatus(StrEnum):
    """The states of a task."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows it."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


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


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    HANDED_OVER = "handed_over"
    WORKER_LOST = "worker_lost"


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
