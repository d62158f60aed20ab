"""The window keeps order, bounds and places; a reader that waits is woken by what concerns it."""

import asyncio
import time

import pytest
from hearth_runtime.events import StreamId
from log_service.filters import EventFilter
from log_service.window import BEGINNING, Entry, Window
from servers.log_process import event

A, B = "a", "b"
ALL = EventFilter()


def entry(place: int, task_id: str = A, message: str = "") -> Entry:
    return Entry(place=StreamId(place, 0), event=event(task_id, message or str(place), stream_id=f"{place}-0"), size=10)


def window(*places: int, max_events: int = 100, max_bytes: int = 1 << 30) -> Window:
    made = Window(max_events=max_events, max_bytes=max_bytes)
    made.restart(BEGINNING)
    if places:
        made.append([entry(p, A if p % 2 else B) for p in places], end=StreamId(places[-1], 0))
    return made


def test_what_follows_a_place_is_read_in_order_and_by_task() -> None:
    held = window(*range(1, 11))
    found, place = held.read(ALL, cursor=StreamId(4, 0), limit=100)
    assert ([e.stream_id for e in found], place) == ([f"{i}-0" for i in range(5, 11)], StreamId(10, 0))
    found, place = held.read(EventFilter(task_ids=(A,)), cursor=StreamId(4, 0), limit=2)
    assert ([e.stream_id for e in found], place) == (["5-0", "7-0"], StreamId(7, 0))
    found, place = held.read(EventFilter(task_ids=(A, B)), cursor=StreamId(8, 0), limit=5)
    assert [e.stream_id for e in found] == ["9-0", "10-0"]
    # Nothing of this task: the place moves on all the same.
    assert held.read(EventFilter(task_ids=("c",)), cursor=BEGINNING, limit=5) == ([], StreamId(10, 0))
    # A place that is yet to come stays.
    assert held.read(ALL, cursor=StreamId(99, 0), limit=5) == ([], StreamId(99, 0))


def test_only_what_is_persisted_is_evicted() -> None:
    held = window(*range(1, 11), max_events=4)
    held.evict(StreamId(3, 0))
    assert (len(held), held.floor) == (7, StreamId(3, 0))
    held.evict(StreamId(100, 0))
    assert (len(held), held.floor) == (4, StreamId(6, 0))
    found, _ = held.read(EventFilter(task_ids=(A,)), cursor=held.floor, limit=100)
    assert [e.stream_id for e in found] == ["7-0", "9-0"]
    for place in range(11, 500):
        held.append([entry(place)], end=StreamId(place, 0))
        held.evict(StreamId(place, 0))
        assert len(held) == 4
    found, _ = held.read(ALL, cursor=held.floor, limit=100)
    assert [e.stream_id for e in found] == ["496-0", "497-0", "498-0", "499-0"]


def test_bytes_are_bounded_too() -> None:
    held = window(*range(1, 11), max_bytes=4 * 1510)
    held.evict(StreamId(100, 0))
    assert len(held) == 4


async def test_far_beyond_its_size_it_takes_no_more_until_events_are_persisted() -> None:
    held = window(*range(1, 10), max_events=4)
    waiting = asyncio.create_task(held.room())
    held.evict(BEGINNING)
    await asyncio.sleep(0)
    assert not waiting.done()
    held.evict(StreamId(2, 0))
    await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("wanted", [(), (A,), (B, A)])
async def test_a_reader_is_woken_by_its_events(wanted: tuple[str, ...]) -> None:
    held = window(1)
    waiting = asyncio.create_task(held.changed(wanted, timeout=10))
    await asyncio.sleep(0)
    held.append([entry(3, "c")], end=StreamId(3, 0))
    await asyncio.sleep(0.01)
    assert waiting.done() == (wanted == ())
    held.append([entry(5, A)], end=StreamId(5, 0))
    await asyncio.wait_for(waiting, 1)


async def test_a_reader_waits_no_longer_than_it_says() -> None:
    held = window(1)
    started = time.monotonic()
    await held.changed((A,), timeout=0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert not held._waiting


async def test_who_adds_events_is_told_at_once_that_a_reader_waits() -> None:
    held = window(1)
    told = asyncio.create_task(held.awaited(timeout=10))
    await asyncio.sleep(0.01)
    assert not told.done()
    waiting = asyncio.create_task(held.changed((B,), timeout=10))
    await asyncio.wait_for(told, 1)
    await asyncio.wait_for(held.awaited(timeout=10), 1)
    held.wake()
    await waiting
    started = time.monotonic()
    await held.awaited(timeout=0.05)
    assert 0.04 < time.monotonic() - started < 5


async def test_a_thousand_readers_of_one_task_wake_quickly() -> None:
    held = window(*range(1, 2001))
    wanted = EventFilter(task_ids=(A,))

    async def reader() -> int:
        cursor = held.end
        await held.changed(wanted.task_ids, timeout=10)
        found, _ = held.read(wanted, cursor=cursor, limit=100)
        return len(found)

    readers = [asyncio.create_task(reader()) for _ in range(1000)]
    await asyncio.sleep(0)
    started = time.monotonic()
    held.append([entry(3001)], end=StreamId(3001, 0))
    assert await asyncio.gather(*readers) == [1] * 1000
    assert time.monotonic() - started < 1
