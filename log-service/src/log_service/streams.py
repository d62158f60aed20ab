"""Streams of events: from PostgreSQL up to the live window, then from the window, then live."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hearth_runtime.errors import (
    FieldViolation,
    HearthError,
    InvalidArgument,
    ResourceExhausted,
    TooManyStreams,
    Unavailable,
)
from hearth_runtime.events import Event, EventKind, StreamId
from hearth_runtime.tasks import TaskStatus
from loguru import logger
from prometheus_client import Gauge
from redis.exceptions import RedisError

from log_service.ends import TaskEnd, TaskEnds
from log_service.filters import EventFilter
from log_service.storage import StoredEvents
from log_service.tail import Tail
from log_service.window import BEGINNING, Window

# What a slow subscriber holds in memory at most: one page of the past, or references to so many recent events.
PAGE_SIZE = 500
READ_LIMIT = 100
ROW_SECONDS = 1.0

FINAL_STATUSES = frozenset(status.value for status in TaskStatus if status.is_final)

SUBSCRIBERS = Gauge("hearth_stream_subscribers", "Streams of events that are open")


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Nothing happened, and the stream is open."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The task has ended and its last event was sent."""

    status: TaskStatus


# The next events, one at least, or what is to be said of them.
type Item = Sequence[Event] | Heartbeat | End


class Streams:
    """Opens streams, `max_streams` at once at most, and ends them all when `stopping` is set."""

    def __init__(
        self,
        *,
        events: StoredEvents,
        window: Window,
        tail: Tail,
        ends: TaskEnds,
        heartbeat_seconds: float,
        max_streams: int,
        stopping: asyncio.Event,
    ) -> None:
        self._events = events
        self._window = window
        self._tail = tail
        self._ends = ends
        self._heartbeat_seconds = heartbeat_seconds
        self._max_streams = max_streams
        self._stopping = stopping
        self._open = 0

    async def stream(self, wanted: EventFilter, *, cursor: StreamId | None, until_end: bool) -> AsyncIterator[Item]:
        """Each matching event after `cursor` once, in order; heartbeats between them.

        Without a cursor: from the task's first event where `until_end`, otherwise from now. With `until_end` the last
        item is an End. Raises InvalidArgument, TaskNotFound, TooManyStreams; Unavailable where the client should
        open it again at the last event that it has.
        """
        if until_end and len(wanted.task_ids) != 1:
            message = "needs exactly one task id in the filter"
            raise InvalidArgument(f"until_end {message}", fields=[FieldViolation(field="until_end", message=message)])
        with self._place():
            end = await self._row(wanted) if until_end else None
            if cursor is None:
                cursor = BEGINNING if until_end else await self._now()
            yield Heartbeat()
            reader = _Reader(self._events, self._window, wanted, cursor, until_end=until_end)
            sent_at = time.monotonic()
            while True:
                if self._stopping.is_set():
                    raise Unavailable("The log service is restarting. Resume the stream after the last event you have.")
                events = await reader.read()
                if events:
                    yield events
                    sent_at = time.monotonic()
                if time.monotonic() - sent_at >= self._heartbeat_seconds:
                    yield Heartbeat()
                    sent_at = time.monotonic()
                if reader.has_more:
                    continue
                patience = math.inf
                if until_end:
                    # What goes on has not ended: only its last event, or silence, is a reason to ask.
                    if reader.saw_final_status or time.monotonic() - reader.found_at >= ROW_SECONDS:
                        end = end or await self._look(wanted, reader)
                    if reader.has_more:
                        continue
                    patience = ROW_SECONDS
                    if end is not None and reader.cursor >= end.last_place:
                        if reader.saw_final_status or end.is_settled:
                            yield End(status=end.status)
                            return
                        # Its last event is yet to come, and what else comes meanwhile counts too.
                        end = None
                quiet = max(0.0, sent_at + self._heartbeat_seconds - time.monotonic())
                # The end's place may be passed by the events of others.
                await self._window.changed(() if end else wanted.task_ids, timeout=min(quiet, patience))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._open >= self._max_streams:
            raise TooManyStreams(
                f"All {self._max_streams} streams of this log service are in use. Close one, or try again later."
            )
        self._open += 1
        SUBSCRIBERS.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            SUBSCRIBERS.set(self._open)

    async def _row(self, wanted: EventFilter) -> TaskEnd | None:
        """The row when a stream is opened: that the task is there must be known."""
        try:
            return await self._ends.look(wanted.task_ids[0], since=time.monotonic() - ROW_SECONDS)
        except (RedisError, OSError):
            return None

    async def _look(self, wanted: EventFilter, reader: "_Reader") -> TaskEnd | None:
        """The row while a stream is open: where it can't be read, the stream goes on."""
        since = time.monotonic() - ROW_SECONDS
        if reader.saw_final_status:
            # The row was final before its worker said so. All subscribers were told at the same time, so they share.
            since = max(since, self._window.appended_at)
        try:
            return await self._ends.look(wanted.task_ids[0], since=since)
        except (HearthError, RedisError, OSError) as error:
            logger.debug("a task's row can't be read", task_id=wanted.task_ids[0], error=repr(error))
            return None

    async def _now(self) -> StreamId:
        """The place of the last event. Where Redis does not answer, its clock is taken to be about ours."""
        place = BEGINNING
        try:
            place = await self._tail.latest()
        except (RedisError, OSError) as error:
            logger.debug("Redis does not tell its last event", error=repr(error))
        return place if place > BEGINNING else StreamId(time.time_ns() // 1_000_000, 0).before()


class _Reader:
    """A subscriber's place in the events, and its next ones, wherever they lie."""

    def __init__(
        self, events: StoredEvents, window: Window, wanted: EventFilter, cursor: StreamId, *, until_end: bool
    ) -> None:
        self._events = events
        self._window = window
        self._wanted = wanted
        # Who waits for the end must notice a final status, wanted or not.
        self._scanned = EventFilter(task_ids=wanted.task_ids) if until_end else wanted
        self._page_size = PAGE_SIZE
        self._token = ""  # of the next page before the window
        self.cursor = cursor
        self.saw_final_status = False
        # When there was an event last, or this reader began, by time.monotonic().
        self.found_at = time.monotonic()

    @property
    def has_more(self) -> bool:
        """Whether `read` should be called before waiting."""
        return self._window.ready and self.cursor < self._window.end

    async def read(self) -> Sequence[Event]:
        """The next few events that are there. The cursor moves past them."""
        if not self._window.ready:
            # What PostgreSQL has may lack events before its last one; only the window tells up to where it is whole.
            return ()
        if self.cursor < self._window.floor:
            found, self.cursor = await self._past()
            self._note(found)
            return found
        scanned, self.cursor = self._window.read(self._scanned, cursor=self.cursor, limit=READ_LIMIT)
        self._note(scanned)
        if not scanned and self.has_more:
            # Many were looked through in vain, and others wait for their turn.
            await asyncio.sleep(0)
        return scanned if self._scanned is self._wanted else [e for e in scanned if self._wanted.matches(e)]

    async def _past(self) -> tuple[tuple[Event, ...], StreamId]:
        """A page of what lies before the window, and the place up to which that is all."""
        floor = self._window.floor
        try:
            found, self._token = await self._events.between(
                self._wanted, after=self.cursor, before=floor.after(), size=self._page_size, token=self._token
            )
        except ResourceExhausted:
            # The page was larger than a message may be.
            if self._page_size == 1:
                raise
            self._page_size = max(1, self._page_size // 8)
            return (), self.cursor
        if not self._token:
            return found, floor
        return found, StreamId.parse(found[-1].stream_id) if found else self.cursor

    def _note(self, events: Sequence[Event]) -> None:
        if events:
            self.found_at = time.monotonic()
        for event in events:
            if event.kind is EventKind.STATUS:
                self.saw_final_status = event.context.get("status") in FINAL_STATUSES
