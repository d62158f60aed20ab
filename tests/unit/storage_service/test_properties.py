"""Hostile arguments of RPCs: taken for what they are, or InvalidArgument. Nothing else gets to PostgreSQL."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.events import StreamId
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_service import arguments
from storage_service.pages import (
    MAX_DIGITS,
    id_of_token,
    number_of_token,
    place_of_token,
    token_of_id,
    token_of_number,
    token_of_place,
)

MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)

int32s, int64s = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
tokens = st.one_of(
    st.text(),
    st.binary(max_size=40).map(lambda b: base64.urlsafe_b64encode(b).decode()),
    st.binary(max_size=40).map(lambda b: base64.urlsafe_b64encode(b).decode().rstrip("=")),
    # Keys of every sort: digits of other scripts, signs, spaces, places out of range.
    st.text("0123456789-+_ ٣²\n\0", max_size=30).map(
        lambda t: base64.urlsafe_b64encode(t.encode()).decode().rstrip("=")
    ),
)


def taken[T](read: Callable[..., T], *args: Any, **options: Any) -> T | None:
    """What `read` gives, or None where it refuses as it should: by a field."""
    try:
        return read(*args, **options)
    except InvalidArgument as error:
        return None if error.fields else pytest.fail("the error names no field")


@MANY
@given(token=tokens)
def test_a_token_is_one_that_its_list_gave_or_refused(token: str) -> None:
    if (last := taken(id_of_token, token)) is not None:
        assert token_of_id(str(last)) == token
    if (place := taken(place_of_token, token)) is not None:
        assert token_of_place(place) == token
    if (number := taken(number_of_token, token)) is not None:
        assert token_of_number(number) == token


@MANY
@given(
    last=st.uuids(),
    milliseconds=st.integers(0, 10**16 - 1),
    sequence=st.integers(0, 10**18 - 1),
    number=st.integers(0, 10**MAX_DIGITS - 1),
)
def test_every_token_comes_back(last: UUID, milliseconds: int, sequence: int, number: int) -> None:
    place = StreamId(milliseconds, sequence)
    assert id_of_token(token_of_id(str(last))) == last
    assert place_of_token(token_of_place(place)) == place
    assert number_of_token(token_of_number(number)) == number


@MANY
@given(seconds=int64s, nanos=int32s, positive=st.booleans())
def test_any_duration(seconds: int, nanos: int, positive: bool) -> None:
    span = taken(arguments.span, Duration(seconds=seconds, nanos=nanos), "lease", positive=positive)
    assert span is None or timedelta() <= span <= arguments.SPAN_LIMIT
    assert not positive or span is None or span


@MANY
@given(seconds=int64s, nanos=int32s)
def test_any_time(seconds: int, nanos: int) -> None:
    request = task_store_pb2.TakeDueTasksRequest()
    request.delivered_before.seconds, request.delivered_before.nanos = seconds, nanos
    moment = taken(arguments.time, request, "delivered_before")
    assert moment is None or datetime(1, 1, 1, tzinfo=UTC) <= moment


@MANY
@given(size=int32s, text=st.text())
def test_any_size_name_id_and_place(size: int, text: str) -> None:
    taken_size = taken(arguments.page_size, size, limit=500)
    assert taken_size is None or 1 <= taken_size <= 500
    taken(arguments.name, text, "name")
    taken(arguments.uuid, text, "id")
    taken(arguments.place, text, "after_stream_id")
