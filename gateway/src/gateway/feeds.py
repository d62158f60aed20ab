"""Feeds of live events: one call to the log service for all clients of this process that watch the same.

A feed holds its last events in memory. Whoever watches is a place among them: it takes what lies after, and waits to be
told of more. A feed reads on only while one of its watchers keeps up with it, so that no history is read for nobody; a
watcher that falls behind what is held goes on with another feed, from its own place.
"""

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from fastapi.sse import format_sse_event
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth_runtime.deadlines import detached
from hearth_runtime.errors import Cancelled, HearthError, Unavailable
from hearth_runtime.events import StreamId
from hearth_runtime.principals import current_principal
from loguru import logger
from prometheus_client import Counter

from gateway.settings import GatewaySettings
from gateway.translation import KIND_NAMES, event_json

if TYPE_CHECKING:
    from hearth.log.v1.log_service_pb2_grpc import LogServiceAsyncStub

RESUMES = Counter("hearth_stream_resumes_total", "Times that a live stream was cut off by the log service and resumed")

FIRST_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 2.0
CLOCK_MARGIN_SECONDS = 1.0

# What is held for those who come later or are slower, and what is read ahead of the fastest at most, each of them.
HELD_EVENTS = 256
HELD_BYTES = 256 * 1024
# From telling all watchers of news to telling them again, for each of them: about twice what a watcher costs for it.
# What comes meanwhile is sent together, which many watchers hardly notice and a thousand could not do without.
PACE_SECONDS = 0.0001

BEGINNING = StreamId(0, 0)


class LiveEvent:
    """An event in the forms that clients are sent, each made once for all of them."""

    def __init__(self, message: event_pb2.Event) -> None:
        self.id = message.stream_id
        self.place = StreamId.parse(message.stream_id)
        self.size = message.ByteSize()
        self._message = message

    @cached_property
    def text(self) -> str:
        """As JSON."""
        return event_json(self._message)

    @cached_property
    def frame(self) -> bytes:
        """As a server-sent event."""
        return format_sse_event(data_str=self.text, event=KIND_NAMES[self._message.kind], id=self.id)


class Watcher(Protocol):
    """One that a feed tells of news."""

    def tell(self) -> None:
        """There may be something to take."""


class Feed:
    """The events that match a filter, after a place, each once and in order, for whom the present call is made."""

    def __init__(
        self,
        logs: "LogServiceAsyncStub",
        settings: GatewaySettings,
        *,
        events: log_service_pb2.EventFilter,
        after: str | None,
        until_end: bool,
        key: Hashable,
    ) -> None:
        self.key = key
        self._logs = logs
        self._settings = settings
        self._filter = events
        self._after = after
        self._until_end = until_end
        # Where a feed "from now on" resumes before it had an event.
        self._start = None if until_end else just_now()
        # Whether somebody goes on with what another feed began: then a failure to open is a cut like any other.
        self._resumes = False
        # What came after this place and was read is held.
        self._floor = StreamId.parse(after) if after else BEGINNING
        # Whether it has had nothing but what happened while it was open.
        self._is_live = not until_end and after is None
        self._held: list[LiveEvent] = []
        self._let_go = 0  # how many were held before these
        self._held_bytes = 0
        self._ahead = 0  # how many of those held nobody has taken yet
        self._ahead_bytes = 0
        self._taken = asyncio.Event()
        self._watchers: set[Watcher] = set()
        self._loop = asyncio.get_running_loop()
        self._telling: asyncio.TimerHandle | None = None
        self._tell_at = 0.0
        self._is_connected = False
        # Whether the log service has served it.
        self.is_open = False
        # The task's status, once all its events are held.
        self.end: str | None = None
        # It goes on when the request that opened it has had its time.
        self._reading = asyncio.create_task(self._read(), context=detached())
        self._reading.add_done_callback(self._is_over)

    def position(self, after: str | None) -> int | None:
        """From where on to `take` what comes after this place, or from now on; None where this feed cannot tell."""
        if self._reading.done() or (self.is_open and not self._is_connected):
            return None  # it was cut off, or its task has ended, which may have been started again
        if not self._until_end:
            return self._end if after is None and self._is_live and not self._is_far_ahead else None
        place = StreamId.parse(after) if after else BEGINNING
        if not self._floor <= place <= (self._held[-1].place if self._held else self._floor):
            return None
        return self._let_go + bisect_right(self._held, place, key=lambda event: event.place)

    @property
    def last_id(self) -> str | None:
        """The id of the last event that was read."""
        return self._held[-1].id if self._held else None

    def check(self) -> None:
        """Raises what has ended the feed, HearthError."""
        if self._reading.done():
            self._reading.result()

    def take(self, position: int) -> Sequence[LiveEvent] | None:
        """All that is held from this position on; None where some of it was let go.

        Raises what has ended the feed, HearthError, once there is nothing before that.
        """
        if position < self._let_go:
            return None
        events = self._held[position - self._let_go :]
        if not events:
            self.check()
        self._ahead = self._ahead_bytes = 0
        self._taken.set()
        return events

    def add(self, watcher: Watcher, *, resumes: bool) -> None:
        """Tells this one of news from now on. `resumes`: it comes from another feed."""
        self._watchers.add(watcher)
        self._resumes |= resumes

    def remove(self, watcher: Watcher) -> None:
        """Tells it no more."""
        self._watchers.remove(watcher)

    @property
    def is_watched(self) -> bool:
        """Whether anybody is told."""
        return bool(self._watchers)

    def close(self) -> None:
        """Ends the call to the log service."""
        if self._telling is not None:
            self._telling.cancel()
        self._reading.cancel()

    def _is_over(self, reading: asyncio.Task[None]) -> None:
        if not reading.cancelled():
            reading.exception()  # whoever takes is told; that nobody does is no news
            self._announce()

    async def _read(self) -> None:
        place = self._after
        failing_since: float | None = None
        delay = FIRST_DELAY_SECONDS
        while True:
            request = log_service_pb2.StreamEventsRequest(
                filter=self._filter, after_stream_id=place, until_end=self._until_end
            )
            call = self._logs.StreamEvents(request)
            messages = aiter(call)
            try:
                while True:
                    async with asyncio.timeout(self._patience(failing_since)):
                        message = await anext(messages, None)
                    if message is None:
                        raise Unavailable("The log service ended the stream before its time.")
                    self.is_open = self._is_connected = True
                    failing_since, delay = None, FIRST_DELAY_SECONDS
                    if message.HasField("end"):
                        self.end = message.end.status
                        return
                    if message.HasField("events"):
                        self._hold([LiveEvent(event) for event in message.events.events])
                        place = self._held[-1].id
                    self._announce()
                    await self._room()
            except TimeoutError:
                error: HearthError = Unavailable("The log service has said nothing for too long.")
            except HearthError as caught:
                error = caught
            finally:
                self._is_connected = False
                call.cancel()
            if not (self.is_open or self._resumes) or not (error.retryable or isinstance(error, Cancelled)):
                raise error
            failing_since = failing_since or time.monotonic()
            if self._patience(failing_since) <= 0:
                raise error
            logger.info("resuming an event stream", after=place, error=error.code)
            RESUMES.inc()
            self._is_live = False
            place = place or self._start
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
            delay = min(delay * 2, MAX_DELAY_SECONDS)

    def _patience(self, failing_since: float | None) -> float:
        """How long the log service may be silent, which it is all the time while it is away."""
        if failing_since is None:
            return self._settings.stream_idle_seconds
        return failing_since + self._settings.stream_resume_seconds - time.monotonic()

    def _hold(self, events: Sequence[LiveEvent]) -> None:
        size = sum(event.size for event in events)
        self._held += events
        self._held_bytes += size
        self._ahead += len(events)
        self._ahead_bytes += size
        taken = len(self._held) - self._ahead
        gone = 0
        while gone < taken and (taken - gone > HELD_EVENTS or self._held_bytes - self._ahead_bytes > HELD_BYTES):
            self._held_bytes -= self._held[gone].size
            gone += 1
        if gone:
            self._floor = self._held[gone - 1].place
            self._let_go += gone
            del self._held[:gone]

    @property
    def _end(self) -> int:
        return self._let_go + len(self._held)

    @property
    def _is_far_ahead(self) -> bool:
        return self._ahead > HELD_EVENTS or self._ahead_bytes > HELD_BYTES

    async def _room(self) -> None:
        """Returns at once, or where much was read ahead, when somebody has taken it."""
        while self._is_far_ahead:
            self._taken.clear()
            await self._taken.wait()

    def _announce(self) -> None:
        """Tells all watchers that there is news, now or as soon as they may be told again."""
        if self._telling is not None:
            return
        if self._loop.time() >= self._tell_at:
            self._tell()
        else:
            self._telling = self._loop.call_at(self._tell_at, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._tell_at = self._loop.time() + PACE_SECONDS * len(self._watchers)
        for watcher in self._watchers:
            watcher.tell()


class Feeds:
    """The feeds that are open."""

    def __init__(self, logs: "LogServiceAsyncStub", settings: GatewaySettings) -> None:
        self._logs = logs
        self._settings = settings
        self._open: dict[Hashable, list[Feed]] = {}

    def join(
        self,
        watcher: Watcher,
        *,
        events: log_service_pb2.EventFilter,
        after: str | None,
        until_end: bool,
        resumes: bool = False,
    ) -> tuple[Feed, int]:
        """A feed that has what comes after this place, opened where there is none, and the position to take from.

        It is to be given to `leave`. `resumes`: the watcher comes from another feed.
        """
        key = (events.SerializeToString(deterministic=True), until_end, current_principal())
        feeds = self._open.setdefault(key, [])
        for feed in feeds:
            position = feed.position(after)
            if position is not None:
                feed.add(watcher, resumes=resumes)
                return feed, position
        feed = Feed(
            self._logs,
            self._settings,
            events=events,
            after=after,
            until_end=until_end,
            key=key,
        )
        feeds.append(feed)
        feed.add(watcher, resumes=resumes)
        return feed, 0

    def leave(self, watcher: Watcher, feed: Feed) -> None:
        """Ends the feed with its last watcher."""
        feed.remove(watcher)
        if feed.is_watched:
            return
        feeds = self._open[feed.key]
        feeds.remove(feed)
        if not feeds:
            del self._open[feed.key]
        feed.close()


def just_now() -> str:
    """A place in the events a moment ago: an id begins with Redis' time, from which this clock may differ a little."""
    return f"{int((time.time() - CLOCK_MARGIN_SECONDS) * 1000)}-0"
