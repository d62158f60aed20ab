"""Checkpoints, as the services that know of them pass them on: the values of hearth.storage.v1.Checkpoint."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

# The name, which no tool has, of what an attempt notes of its surroundings in the journal of tool calls.
NOTE = ":note"


@dataclass(frozen=True, kw_only=True)
class TypedBytes:
    """A value as langgraph.checkpoint.serde writes it: how, and what."""

    type: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run between two steps. Ids sort by time; the namespace of the run's own graph is empty."""

    task_id: str
    namespace: str
    id: str
    parent_id: str | None
    checkpoint: TypedBytes
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CheckpointWrite:
    """What one execution of a step wrote after a checkpoint. `idx` is below 0 for LangGraph's own channels."""

    step_id: str
    step_path: str
    idx: int
    channel: str
    value: TypedBytes


@dataclass(frozen=True, kw_only=True)
class CheckpointWrites:
    """What steps wrote after the checkpoint that is named."""

    namespace: str
    checkpoint_id: str
    writes: tuple[CheckpointWrite, ...]


@dataclass(frozen=True, kw_only=True)
class KeptCheckpoint:
    """A checkpoint with what was written after it: by step_path, step_id and idx."""

    checkpoint: Checkpoint
    writes: tuple[CheckpointWrite, ...]


@dataclass(frozen=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint as it is listed. Attempt 0 copied it from the task that its own was made from."""

    checkpoint: Checkpoint
    attempt: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """A tool call that was made. `result` is any JSON, as text. Attempt 0 copied it from the task that its own was made
    from."""

    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    result: str
    attempt: int
