"""What comes from outside a process is what it says to be, or is refused by the error that is told of: nothing else."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from hearth.agent.v1 import task_pb2
from hearth.log.v1 import event_pb2
from hearth_runtime.codec import duration, from_message, timestamp, to_message
from hearth_runtime.errors import HearthError, from_rpc_error
from hearth_runtime.events import Event, EventKind, EventLevel, StreamId
from hearth_runtime.identifiers import is_id, new_id
from hearth_runtime.tasks import Task, TaskStatus
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

MANY = settings(max_examples=150, deadline=None, derandomize=True, database=None)

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, json_values, max_size=3)
times = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59), timezones=st.just(UTC))  # noqa: DTZ001
events = st.builds(
    Event,
    stream_id=st.just(""),
    id=texts,
    task_id=texts,
    agent_id=texts,
    attempt=st.integers(0, 2**31 - 1),
    kind=st.sampled_from(EventKind),
    level=st.sampled_from(EventLevel),
    message=texts,
    context=objects,
    timestamp=times,
    traceparent=texts,
)
tasks = st.builds(
    Task,
    id=texts,
    agent_id=texts,
    session_id=st.none() | texts,
    status=st.sampled_from(TaskStatus),
    input=objects,
    output=st.none() | objects,
    error_code=st.none() | texts,
    error_message=st.none() | texts,
    retry_count=st.integers(0, 2**31 - 1),
    attempt=st.integers(0, 2**31 - 1),
    created_at=times,
    started_at=st.none() | times,
    completed_at=st.none() | times,
    next_attempt_at=st.none() | times,
    cancel_requested=st.booleans(),
)


def decoded(value: bytes) -> Event | None:
    """The event, or None where it is refused as it should be."""
    try:
        event = Event.decode(value, stream_id="5-1")
    except (ValueError, DecodeError):
        return None
    assert isinstance(event.context, dict)
    assert isinstance(event.kind, EventKind)
    assert isinstance(event.level, EventLevel)
    assert event.timestamp.tzinfo is UTC
    return event


@MANY
@given(event=events)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert Event.decode(event.encode(), stream_id="") == event


@MANY
@given(value=st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(value: bytes) -> None:
    decoded(value)


@MANY
@given(event=events, at=st.integers(0, 300), put=st.binary(max_size=4), drop=st.integers(0, 4))
def test_a_damaged_event_is_an_event_or_refused(event: Event, at: int, put: bytes, drop: int) -> None:
    value = event.encode()
    at = min(at, len(value))
    decoded(value[:at] + put + value[at + drop :])


@MANY
@given(
    context=st.one_of(json_values.map(json.dumps), st.text(), st.just("[" * 100_000), st.just('{"a":' * 5000)),
    kind=st.integers(-(2**31), 2**31 - 1),
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
)
@example(context="{}", kind=2, seconds=10**15, nanos=0)
@example(context="[]", kind=2, seconds=0, nanos=0)
def test_an_event_of_strange_values_is_refused(context: str, kind: int, seconds: int, nanos: int) -> None:
    try:
        message = event_pb2.Event(id="e", kind=kind, level=2, context=context)  # type: ignore[arg-type]
    except UnicodeEncodeError:
        assume(False)
    message.timestamp.seconds, message.timestamp.nanos = seconds, nanos
    decoded(message.SerializeToString())


@MANY
@given(task=tasks)
def test_a_task_comes_back_as_it_was(task: Task) -> None:
    assert from_message(task_pb2.Task.FromString(to_message(task, task_pb2.Task).SerializeToString()), Task) == task


@MANY
@given(moment=times, span=st.timedeltas(timedelta(days=-3_650_000), timedelta(days=3_650_000)))
def test_times_and_spans_come_back_to_the_microsecond(moment: datetime, span: timedelta) -> None:
    assert timestamp(moment).ToDatetime(tzinfo=UTC) == moment
    assert duration(span).ToTimedelta() == span


@MANY
@given(milliseconds=st.integers(0, 10**16 - 1), sequence=st.integers(0, 10**18 - 1))
def test_a_stream_id_has_one_spelling(milliseconds: int, sequence: int) -> None:
    place = StreamId(milliseconds, sequence)
    assert StreamId.parse(str(place)) == place


@MANY
@given(text=st.one_of(st.text(), st.from_regex(r"[0-9٠-٩]+-[0-9]*\s?"), st.text("0123456789-+ \n\0", max_size=40)))
def test_any_text_is_a_stream_id_or_refused(text: str) -> None:
    try:
        place = StreamId.parse(text)
    except ValueError:
        return
    assert str(place) == text


@MANY
@given(text=st.one_of(st.text(), st.uuids().map(str), st.uuids().map(lambda u: u.hex), st.uuids().map(lambda u: u.urn)))
def test_any_text_is_an_id_or_not(text: str) -> None:
    if is_id(text):
        assert str(UUID(text)) == text.lower()
        assert len(text.encode()) == 36


def test_new_ids_sort_by_their_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(is_id(i) for i in ids)


@MANY
@given(detail=texts, seconds=st.none() | st.floats(0, 10**8), metadata=st.dictionaries(texts, texts, max_size=3))
def test_an_error_comes_back_as_it_was(detail: str, seconds: float | None, metadata: dict[str, str]) -> None:
    error = HearthError(detail, metadata=metadata, retry_after_seconds=seconds)
    trailing = grpc.aio.Metadata(*error.trailing_metadata())
    failed = grpc.aio.AioRpcError(error.status, grpc.aio.Metadata(), trailing, error.detail)
    again = from_rpc_error(failed, service="storage")
    assert (again.detail, again.metadata) == (error.detail, error.metadata)
    assert again.retry_after_seconds == (None if seconds is None else pytest.approx(seconds, abs=1e-6))
