"""A stream ends when, and only when, all that was in Redis at the task's end was sent."""

import asyncio
import time
from typing import Any, cast

import pytest
from hearth_runtime.errors import Unavailable
from hearth_runtime.events import Event, EventKind, StreamId
from hearth_runtime.tasks import TaskStatus
from log_service import streams
from log_service.ends import TaskEnd
from log_service.filters import EventFilter
from log_service.streams import End, Heartbeat, Streams
from log_service.window import BEGINNING, Entry, Window
from servers.log_process import event

TASK = "t"


class Ends:
    """What the row says: `end`, or the error that reading it raises."""

    def __init__(self) -> None:
        self.end: TaskEnd | None = None
        self.error: Exception | None = None
        self.looks = 0

    async def look(self, task_id: str, *, since: float) -> TaskEnd | None:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.end


class Watched:
    """A window with one stream that is read in the background."""

    def __init__(self) -> None:
        self.window = Window(max_events=100, max_bytes=1 << 20)
        self.window.restart(BEGINNING)
        self.ends = Ends()
        self.stopping = asyncio.Event()
        self.items: list[Event | Heartbeat | End] = []
        opened = Streams(
            events=cast(Any, None),
            window=self.window,
            tail=cast(Any, None),
            ends=cast(Any, self.ends),
            heartbeat_seconds=60,
            max_streams=1,
            stopping=self.stopping,
        )
        self._stream = opened.stream(EventFilter(task_ids=(TASK,)), cursor=None, until_end=True)
        self.done = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for item in self._stream:
            if isinstance(item, Heartbeat | End):
                self.items.append(item)
            else:
                self.items.extend(item)

    def append(self, place: int, task_id: str = TASK, **changes: Any) -> Event:
        added = event(task_id, str(place), stream_id=f"{place}-0", **changes)
        self.window.append([Entry(place=StreamId(place, 0), event=added, size=1)], end=StreamId(place, 0))
        return added

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def ended(last_place: int, *, is_settled: bool = True) -> TaskEnd:
    return TaskEnd(status=TaskStatus.FAILED, is_settled=is_settled, last_place=StreamId(last_place, 0))


async def test_it_waits_for_what_the_tail_has_not_read_yet() -> None:
    watched = Watched()
    watched.ends.end = ended(7)
    first = watched.append(5)
    await watched.settle()
    assert watched.items == [Heartbeat(), first]
    late = watched.append(6)
    # Another task's event is the last one.
    watched.append(7, "another")
    await asyncio.wait_for(watched.done, 0.5)
    assert watched.items == [Heartbeat(), first, late, End(status=TaskStatus.FAILED)]


async def test_a_final_status_counts_only_if_the_row_agrees() -> None:
    watched = Watched()
    failed = watched.append(5, kind=EventKind.STATUS, context={"status": "failed"})
    await watched.settle()
    assert watched.items == [Heartbeat(), failed]
    again = watched.append(6, kind=EventKind.STATUS, context={"status": "running"})
    await watched.settle()
    watched.ends.end = ended(6, is_settled=False)
    last = watched.append(7, kind=EventKind.STATUS, context={"status": "completed"})
    await asyncio.wait_for(watched.done, 0.5)
    assert watched.items == [Heartbeat(), failed, again, last, End(status=TaskStatus.FAILED)]


async def test_a_row_that_cannot_be_read_ends_no_open_stream() -> None:
    watched = Watched()
    await watched.settle()
    watched.ends.error = Unavailable()
    first = watched.append(5)
    await watched.settle()
    assert watched.items == [Heartbeat(), first]
    watched.ends.error, watched.ends.end = None, ended(5)
    await asyncio.wait_for(watched.done, 3)
    assert watched.items[-1] == End(status=TaskStatus.FAILED)


async def test_the_row_of_a_task_that_goes_on_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROW_SECONDS", 0.1)
    watched = Watched()
    began, place = time.monotonic(), 0
    while time.monotonic() < began + 0.5:
        place += 1
        watched.append(place, kind=EventKind.DELTA)
        await asyncio.sleep(0.01)
    assert watched.ends.looks == 1  # when it was opened
    # Once it is silent, its end may have been lost.
    watched.ends.end = ended(place)
    await asyncio.wait_for(watched.done, 3)
    assert watched.items[-1] == End(status=TaskStatus.FAILED)
