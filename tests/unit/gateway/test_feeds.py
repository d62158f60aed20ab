"""Feeds: all who watch the same share one call to the log service, and none of them misses an event by that."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from gateway.feeds import HELD_BYTES, HELD_EVENTS, Feeds
from gateway.settings import GatewaySettings
from gateway.streams import EventStream
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth_runtime.errors import Cancelled, TaskNotFound, Unavailable
from hearth_runtime.principals import Principal, acting_for
from servers.gateway import until

Message = log_service_pb2.StreamEventsResponse


class Call:
    """A call that is fed by hand."""

    def __init__(self, request: log_service_pb2.StreamEventsRequest) -> None:
        self.request = request
        self.messages: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.read = 0
        self.is_cancelled = False

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            message = await self.messages.get()
            if isinstance(message, Exception):
                raise message
            self.read += 1
            yield message

    def cancel(self) -> None:
        self.is_cancelled = True

    def serve(self) -> None:
        self.messages.put_nowait(Message(heartbeat=Message.Heartbeat()))

    def send(self, *numbers: int, text: str = "") -> None:
        events = [
            event_pb2.Event(
                stream_id=f"{n}-0", kind=event_pb2.Event.KIND_LOG, level=event_pb2.Event.LEVEL_INFO, message=text
            )
            for n in numbers
        ]
        self.messages.put_nowait(Message(events=Message.Events(events=events)))

    def end(self) -> None:
        self.messages.put_nowait(Message(end=Message.End(status="completed")))


class Logs:
    """The log service as the gateway calls it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.feeds = Feeds(cast(Any, self), GatewaySettings(stream_resume_seconds=5))

    def StreamEvents(self, request: log_service_pb2.StreamEventsRequest) -> Call:  # noqa: N802
        self.calls.append(Call(request))
        return self.calls[-1]

    def watch(self, after: int | None = None, *, task_id: str = "t", until_end: bool = True) -> EventStream:
        return EventStream(
            self.feeds,
            events=log_service_pb2.EventFilter(task_ids=[task_id]),
            after=None if after is None else f"{after}-0",
            until_end=until_end,
        )

    async def open(self, after: int | None = None, **options: Any) -> EventStream:
        """One for which the log service has been asked anew and has answered."""
        before = len(self.calls)
        stream = self.watch(after, **options)
        opening = asyncio.create_task(stream.open(5))
        await until(lambda: len(self.calls) > before)
        self.calls[-1].serve()
        await opening
        return stream


async def numbers(stream: EventStream, count: int) -> list[int]:
    """The next so many events."""
    found: list[int] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += [event.place.milliseconds for event in await stream.next(timeout=5)]
    return found


async def ended(stream: EventStream) -> bool:
    """Whether it ends without another event."""
    return not await stream.next(timeout=5) and stream.end == "completed"


async def test_all_who_watch_a_task_share_one_call() -> None:
    logs = Logs()
    first = await logs.open()
    call = logs.calls[0]
    call.send(1, 2)
    assert await numbers(first, 2) == [1, 2]
    # From the beginning, and after the one event and the other.
    late, resumed, new = logs.watch(), logs.watch(1), logs.watch(2)
    for stream in (late, resumed, new):
        await stream.open(5)
    call.send(3, 4)
    call.end()
    assert await numbers(first, 2) == [3, 4]
    assert await numbers(late, 4) == [1, 2, 3, 4]
    assert await numbers(resumed, 3) == [2, 3, 4]
    assert await numbers(new, 2) == [3, 4]
    for stream in (first, late, resumed, new):
        assert await ended(stream)
        stream.close()
    assert len(logs.calls) == 1


async def test_one_that_has_more_than_a_feed_has_a_call_of_its_own() -> None:
    logs = Logs()
    first = await logs.open()
    ahead = await logs.open(3)
    assert len(logs.calls) == 2
    for call in logs.calls:
        call.send(*range(4 if call.request.after_stream_id else 1, 6))
    assert await numbers(first, 5) == [1, 2, 3, 4, 5]
    assert await numbers(ahead, 2) == [4, 5]


async def test_an_event_has_each_form_once_for_all() -> None:
    logs = Logs()
    one = await logs.open()
    other = logs.watch()
    logs.calls[0].send(1)
    (event,), (same,) = await one.next(timeout=5), await other.next(timeout=5)
    assert event is same
    assert event.frame is same.frame


async def test_those_who_come_while_a_feed_is_opened_wait_for_it() -> None:
    logs = Logs()
    streams = [logs.watch() for _ in range(3)]
    opening = [asyncio.create_task(stream.open(5)) for stream in streams]
    await until(lambda: logs.calls)
    logs.calls[0].messages.put_nowait(TaskNotFound("There is no task t."))
    for each in opening:
        with pytest.raises(TaskNotFound):
            await each
    assert len(logs.calls) == 1


async def test_a_feed_is_shared_only_by_those_who_may_see_and_want_the_same() -> None:
    logs = Logs()
    await logs.open()
    await logs.open(task_id="u")
    await logs.open(until_end=False)
    for owner in ("a", "b"):
        with acting_for(Principal(owner=owner)):
            await logs.open()
    with acting_for(Principal(owner="a")):
        await logs.watch().open(5)
    assert len(logs.calls) == 5


async def test_from_now_on_means_nothing_of_before() -> None:
    logs = Logs()
    first = await logs.open(until_end=False)
    logs.calls[0].send(1)
    assert await numbers(first, 1) == [1]
    # It is told of what comes, and knows its place.
    second = logs.watch(until_end=False)
    await second.open(5)
    assert (len(logs.calls), second.place) == (1, "1-0")
    logs.calls[0].send(2)
    assert await numbers(second, 1) == [2]
    # Nobody takes what this one reads of the past for news, ...
    await logs.open(0, until_end=False)
    assert await logs.open(1, until_end=False) is not None
    assert [call.request.after_stream_id for call in logs.calls] == ["", "0-0", "1-0"]
    # ... nor what is made up for after a cut.
    logs.calls[0].messages.put_nowait(Unavailable("It restarts."))
    await until(lambda: len(logs.calls) == 4)
    logs.calls[3].serve()
    await until(lambda: logs.calls[3].read)
    await logs.open(until_end=False)
    assert [call.request.after_stream_id for call in logs.calls[3:]] == ["2-0", ""]


async def test_one_from_now_on_that_fell_behind_before_its_first_event_goes_on_from_where_it_began() -> None:
    logs = Logs()
    fast = await logs.open(until_end=False)
    logs.calls[0].send(1)
    assert await numbers(fast, 1) == [1]
    slow = logs.watch(until_end=False)
    for number in range(2, HELD_EVENTS + 10):
        logs.calls[0].send(number)
        assert await numbers(fast, 1) == [number]
    assert not await slow.next(timeout=0.01)
    assert logs.calls[1].request.after_stream_id == "1-0"


async def test_a_feed_that_could_not_be_opened_is_joined_by_nobody() -> None:
    logs = Logs()
    first = logs.watch()
    opening = asyncio.create_task(first.open(5))
    await until(lambda: logs.calls)
    logs.calls[0].messages.put_nowait(Unavailable("It restarts."))
    with pytest.raises(Unavailable):
        await opening
    # The first has not let go of it yet.
    await logs.open()
    assert len(logs.calls) == 2


async def test_one_that_fell_behind_takes_at_once_what_another_feed_holds() -> None:
    logs = Logs()
    fast = await logs.open()
    slow, slower = logs.watch(), logs.watch()
    for number in range(1, HELD_EVENTS + 10):
        logs.calls[0].send(number)
        assert await numbers(fast, 1) == [number]
    assert not await slow.next(timeout=0.01)
    logs.calls[1].serve()
    logs.calls[1].send(*range(1, 10))
    assert await numbers(slow, 9) == list(range(1, 10))
    assert await asyncio.wait_for(numbers(slower, 9), 1) == list(range(1, 10))
    assert len(logs.calls) == 2


async def test_one_that_fell_behind_and_joins_a_feed_that_is_opened_is_as_patient_as_in_one_of_its_own() -> None:
    logs = Logs()
    fast = await logs.open()
    slow = logs.watch()
    for number in range(1, HELD_EVENTS + 10):
        logs.calls[0].send(number)
        assert await numbers(fast, 1) == [number]
    late = logs.watch()
    opening = asyncio.create_task(late.open(5))
    await until(lambda: len(logs.calls) == 2)
    assert not await slow.next(timeout=0.01)
    logs.calls[1].messages.put_nowait(Unavailable("It restarts."))
    await until(lambda: len(logs.calls) == 3)
    logs.calls[2].serve()
    await opening
    logs.calls[2].send(1, 2)
    assert await numbers(slow, 2) == await numbers(late, 2) == [1, 2]


async def test_the_call_ends_with_the_last_watcher() -> None:
    logs = Logs()
    one = await logs.open()
    other = logs.watch()
    one.close()
    logs.calls[0].send(1)
    assert await numbers(other, 1) == [1]
    assert not logs.calls[0].is_cancelled
    other.close()
    await until(lambda: logs.calls[0].is_cancelled)
    await logs.open()
    assert len(logs.calls) == 2


async def test_what_is_no_longer_held_is_asked_for_again() -> None:
    logs = Logs()
    fast = await logs.open()
    slow = logs.watch()
    last = 3 * HELD_EVENTS
    for number in range(1, last + 1):
        logs.calls[0].send(number)
        assert await numbers(fast, 1) == [number]
    # One that comes now, and one that has been there all the time.
    late = await logs.open()
    assert not logs.calls[1].request.HasField("after_stream_id")
    assert not await slow.next(timeout=0.01)
    # It shares the call of the one that began at the beginning too.
    assert len(logs.calls) == 2
    logs.calls[1].send(*range(1, last + 1))
    assert await numbers(slow, last) == await numbers(late, last) == list(range(1, last + 1))


async def test_one_that_fell_behind_goes_on_from_its_place_though_the_log_service_restarts() -> None:
    logs = Logs()
    fast = await logs.open()
    slow = logs.watch()
    logs.calls[0].send(1)
    assert await numbers(slow, 1) == [1]
    text = "x" * (HELD_BYTES // 4)
    for number in range(1, 8):
        if number > 1:
            logs.calls[0].send(number, text=text)
        assert await numbers(fast, 1) == [number]
    going_on = asyncio.create_task(numbers(slow, 6))
    await until(lambda: len(logs.calls) == 2)
    logs.calls[1].messages.put_nowait(Unavailable("It restarts."))
    await until(lambda: len(logs.calls) == 3)
    assert logs.calls[2].request.after_stream_id == "1-0"
    logs.calls[2].send(*range(2, 8))
    assert await going_on == list(range(2, 8))


@pytest.mark.parametrize("size", [1, HELD_BYTES])
async def test_a_feed_reads_no_further_ahead_than_it_may_hold(size: int) -> None:
    logs = Logs()
    stream = await logs.open()
    call = logs.calls[0]
    for number in range(1, 2 * HELD_EVENTS):
        call.send(number, text="x" * size)
    for _ in range(5 * HELD_EVENTS):
        await asyncio.sleep(0)
    assert call.read - 1 in (HELD_EVENTS + 1, 1)
    assert await numbers(stream, 2 * HELD_EVENTS - 1) == list(range(1, 2 * HELD_EVENTS))


async def test_a_feed_that_is_cut_off_is_resumed_and_joined_by_nobody_meanwhile() -> None:
    logs = Logs()
    stream = await logs.open()
    logs.calls[0].send(1)
    assert await numbers(stream, 1) == [1]
    logs.calls[0].messages.put_nowait(Cancelled("It restarts."))
    await until(lambda: logs.calls[0].is_cancelled)
    refused = logs.watch()
    opening = asyncio.create_task(refused.open(5))
    await until(lambda: len(logs.calls) > 1)
    for call in logs.calls[1:]:
        call.messages.put_nowait(Unavailable("It is away."))
    with pytest.raises(Unavailable):
        await opening
    refused.close()
    await until(lambda: logs.calls[-1].request.after_stream_id == "1-0" and not logs.calls[-1].is_cancelled)
    logs.calls[-1].send(2)
    logs.calls[-1].end()
    assert await numbers(stream, 1) == [2]
    assert await ended(stream)


async def test_many_are_told_at_once_of_what_came_meanwhile() -> None:
    logs = Logs()
    streams = [await logs.open(), *(logs.watch() for _ in range(299))]
    call = logs.calls[0]
    takes = 0

    async def watch(stream: EventStream) -> None:
        nonlocal takes
        while not (stream.end is not None):
            takes += bool(await stream.next(timeout=5))

    watching = [asyncio.create_task(watch(stream)) for stream in streams]
    for number in range(1, 31):
        call.send(number)
    call.end()
    await asyncio.wait_for(asyncio.gather(*watching), 10)
    assert takes < 10 * len(streams)
