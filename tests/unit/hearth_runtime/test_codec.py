"""Dataclasses to messages and back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2
from hearth.log.v1 import event_pb2
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.events import MAX_SEQUENCE, Event, EventKind, EventLevel, StreamId


class Status(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Task:
    id: str
    status: Status
    input: dict[str, Any]
    output: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Turn:
    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    task: Task
    session_turns: tuple[Turn, ...]
    queued: timedelta


TASK = Task(
    id="a",
    status=Status.RUNNING,
    input={"prompt": "one", "n": 1},
    output=None,
    created_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    started_at=None,
)


def test_a_nested_value_comes_back_as_it_was() -> None:
    claim = Claim(task=TASK, session_turns=(Turn(role="user", content="hi"),), queued=timedelta(milliseconds=1500))
    message = to_message(claim, task_store_pb2.ClaimTaskResponse)
    assert message.task.status == task_pb2.Task.STATUS_RUNNING
    assert message.task.input == '{"prompt":"one","n":1}'
    assert not message.task.HasField("output")
    assert from_message(message, Claim) == claim


def test_an_unset_enum_is_an_error_where_the_value_needs_one() -> None:
    message = to_message(TASK, task_pb2.Task)
    message.status = task_pb2.Task.STATUS_UNSPECIFIED
    with pytest.raises(ValueError, match="status is missing"):
        from_message(message, Task)


def test_an_absent_message_is_an_error_where_the_value_needs_one() -> None:
    message = to_message(TASK, task_pb2.Task)
    message.ClearField("created_at")
    with pytest.raises(ValueError, match="created_at is missing"):
        from_message(message, Task)


def test_an_event_keeps_its_place_outside_its_bytes() -> None:
    event = Event(
        stream_id="",
        id="e",
        task_id="t",
        agent_id="a",
        attempt=2,
        kind=EventKind.TOOL_CALL,
        level=EventLevel.WARNING,
        message="héllo",
        context={"a": [1, 2.5, None]},
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        traceparent="",
    )
    decoded = Event.decode(event.encode(), stream_id="5-1")
    assert decoded.stream_id == "5-1"
    assert decoded.context == event.context
    assert decoded.kind is EventKind.TOOL_CALL
    assert to_message(decoded, event_pb2.Event).kind == event_pb2.Event.KIND_TOOL_CALL


def test_stream_ids_sort_as_numbers() -> None:
    assert StreamId.parse("9-10") > StreamId.parse("9-9")
    assert StreamId.parse("10-0") > StreamId.parse("9-99")
    assert str(StreamId.parse("1764000000000-3")) == "1764000000000-3"


def test_places_have_neighbours() -> None:
    assert StreamId(5, 3).after() == StreamId(5, 4)
    assert StreamId(5, 3).before() == StreamId(5, 2)
    assert StreamId(5, 0).before() == StreamId(4, MAX_SEQUENCE)
    assert StreamId(5, 0).before().after() == StreamId(5, 0)
    assert StreamId(0, 0).before() == StreamId(0, 0)


@pytest.mark.parametrize(
    "text", ["", "5", "5-", "-1", "a-1", "1-1-1", "01-1", "1 -1", "99999999999999999-0", "$", "１-1"]
)
def test_what_is_no_stream_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no event id"):
        StreamId.parse(text)


def test_a_level_and_worse() -> None:
    assert EventLevel.WARNING.and_worse() == (EventLevel.WARNING, EventLevel.ERROR)
