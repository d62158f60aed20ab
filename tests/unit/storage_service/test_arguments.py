"""What fields of requests must be."""

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.events import StreamId
from storage_service import arguments


@pytest.mark.parametrize(("given", "taken"), [(0, 50), (1, 1), (500, 500)])
def test_the_size_of_a_page(given: int, taken: int) -> None:
    assert arguments.page_size(given, limit=500) == taken


@pytest.mark.parametrize("given", [-1, 501])
def test_a_page_has_a_bound(given: int) -> None:
    with pytest.raises(InvalidArgument, match="1 to 500"):
        arguments.page_size(given, limit=500)


def test_a_span_is_within_bounds() -> None:
    assert arguments.span(Duration(seconds=1, nanos=500_000_000), "lease") == timedelta(seconds=1.5)
    assert arguments.span(Duration(), "delay") == timedelta()
    for wrong in (Duration(seconds=-1), Duration(seconds=10**9), Duration(seconds=10**18), Duration(nanos=-1_000)):
        with pytest.raises(InvalidArgument, match="delay must be"):
            arguments.span(wrong, "delay")
    with pytest.raises(InvalidArgument, match="lease must be more than 0"):
        arguments.span(Duration(), "lease", positive=True)


def test_a_time_that_is_none() -> None:
    request = task_store_pb2.TakeDueTasksRequest()
    assert arguments.time(request, "delivered_before") is None
    request.delivered_before.CopyFrom(Timestamp(seconds=10**15))
    with pytest.raises(InvalidArgument, match="delivered_before must be a time"):
        arguments.time(request, "delivered_before")


def test_places_and_names() -> None:
    assert arguments.place("10-2", "after_stream_id") == StreamId(10, 2)
    for wrong in ("", "10", "-1-0", "10-2-3", "01-0"):
        with pytest.raises(InvalidArgument, match="after_stream_id"):
            arguments.place(wrong, "after_stream_id")
    assert arguments.name("n", "name") == "n"
    for wrong in ("", "n" * 256):
        with pytest.raises(InvalidArgument, match="1 to 255"):
            arguments.name(wrong, "name")
