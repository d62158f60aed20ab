"""Persists entries of the event stream: each ends in PostgreSQL, or in `hearth.dead` where it is no event."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
from hearth_runtime.errors import HearthError
from hearth_runtime.events import EVENTS_STREAM, Event, EventKind, StreamId
from hearth_runtime.lifecycle import pause
from hearth_runtime.redis_streams import DEAD_STREAM
from hearth_runtime.telemetry import context_of, tracer
from loguru import logger
from opentelemetry import trace
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from log_service.batches import by_size
from log_service.entries import NotAnEvent, StreamEntry
from log_service.storage import StoredEvents
from log_service.watermark import WRITERS_GROUP

RETRY_SECONDS = 0.1
RETRY_CAP_SECONDS = 5.0
# Bounds one call to storage-service; its messages may have 32 MiB.
CALL_BYTES = 8 * 1024 * 1024
DEAD_LENGTH = 10_000

# Storage says that the event itself is wrong, so that trying again is in vain.
REFUSALS = frozenset((grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION))
# Any other failure may pass, but a fault that one event provokes must not hold up all others for ever. After so many
# tries a batch is halved to find that event; after so many more, alone, it is given up.
TRIES_OF_BATCH = 4
TRIES_OF_EVENT = 8

PERSISTED = Counter("hearth_events_persisted_total", "Events that storage-service has")
DEAD = Counter(
    "hearth_events_dead_total", "Entries of the event stream that could not be persisted, and went to the dead"
)
DEAD_LOST = Counter("hearth_dead_letters_lost_total", "Dead letters that were deleted, as there were too many")


class Interrupted(Exception):
    """The process stops before it was done; the entries stay pending and are taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Valid:
    entry: StreamEntry
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dead:
    entry: StreamEntry
    reason: str


class Persistence:
    """Waits for storage-service and Redis for as long as it takes, or until `stopping` is set."""

    def __init__(
        self,
        redis: Redis,
        events: StoredEvents,
        stopping: asyncio.Event,
        *,
        traced: bool,
        tries_of_event: int = TRIES_OF_EVENT,
        dead_length: int = DEAD_LENGTH,
    ) -> None:
        self._redis = redis
        self._events = events
        self._stopping = stopping
        self._traced = traced
        self._tries_of_event = tries_of_event
        self._dead_length = dead_length

    async def persist(self, entries: Sequence[StreamEntry], *, given_up: Mapping[StreamId, str]) -> None:
        """Persists and acknowledges. `given_up` names places of these to bury unseen, with the reason.

        Raises Interrupted; then some may be stored, which is harmless, since storing them again changes nothing.
        """
        valid, dead = [], []
        for entry in entries:
            if entry.place in given_up:
                dead.append(_Dead(entry=entry, reason=given_up[entry.place]))
                continue
            try:
                event = entry.event()
            except NotAnEvent as error:
                dead.append(_Dead(entry=entry, reason=str(error)))
                continue
            if event.kind is not EventKind.DELTA:
                valid.append(_Valid(entry=entry, event=event))
        with self._spans([v.event for v in valid]):
            for part in _calls(valid):
                dead.extend(await self._store(part))
        for entry_and_reason in dead:
            await self._retrying(partial(self._bury, entry_and_reason))
        ids = [str(entry.place) for entry in entries]
        await self._retrying(lambda: self._redis.xack(EVENTS_STREAM, WRITERS_GROUP, *ids))

    async def store_lost(self, events: Sequence[Event]) -> None:
        """Stores events that Redis has lost; those that cannot be stored go to the dead. Raises Interrupted."""
        kept = [
            _Valid(
                entry=StreamEntry(place=StreamId.parse(e.stream_id), value=replace(e, stream_id="").encode()), event=e
            )
            for e in events
            if e.kind is not EventKind.DELTA
        ]
        for start in range(0, len(kept), 100):
            for part in _calls(kept[start : start + 100]):
                for dead in await self._store(part):
                    await self._retrying(partial(self._bury, dead))

    async def _store(self, part: Sequence[_Valid]) -> list[_Dead]:
        """Stores all of them but those that are returned."""
        events = [v.event for v in part]
        tries = self._tries_of_event if len(part) == 1 else TRIES_OF_BATCH
        try:
            PERSISTED.inc(await self._retrying(partial(self._events.append, events), tries=tries))
        except HearthError as error:
            if len(part) == 1:
                return [_Dead(entry=part[0].entry, reason=f"storage-service refused it: {error.code}: {error.detail}")]
            middle = len(part) // 2
            return [*await self._store(part[:middle]), *await self._store(part[middle:])]
        return []

    async def _bury(self, dead: _Dead) -> None:
        place = str(dead.entry.place)
        fields: Any = {"event": dead.entry.value, "reason": dead.reason, "stream": EVENTS_STREAM, "id": place}
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(DEAD_STREAM, fields)
            pipe.xtrim(DEAD_STREAM, maxlen=self._dead_length, approximate=False)
            _, lost = await pipe.execute()
        DEAD.inc()
        logger.error("an entry of the event stream is dead", stream_id=place, reason=dead.reason, kept_in=DEAD_STREAM)
        if lost:
            DEAD_LOST.inc(lost)
            logger.error(
                "the oldest dead letters are lost: requeue them before there are so many",
                count=lost,
                kept=self._dead_length,
            )

    async def _retrying[T](self, operation: Callable[[], Awaitable[T]], *, tries: int | None = None) -> T:
        """Repeats what may pass with growing delays. Raises what storage-service refuses, and Interrupted."""
        delay, failures = RETRY_SECONDS, 0
        while True:
            try:
                return await operation()
            except (RedisError, OSError) as error:
                logger.warning("persisting waits for Redis", error=repr(error))
            except HearthError as error:
                if error.status in REFUSALS:
                    raise
                failures += 0 if error.retryable else 1
                if tries is not None and failures >= tries:
                    raise
                logger.warning("persisting waits for storage-service", error=error.detail, code=error.code)
            if await pause(self._stopping, delay):
                raise Interrupted
            delay = min(delay * 2, RETRY_CAP_SECONDS)

    @contextmanager
    def _spans(self, events: Sequence[Event]) -> Iterator[None]:
        """One span in each trace that has events here. What storage-service does is seen below the first of them, to
        which the others are linked: a batch is one for all."""
        with ExitStack() as stack:
            if self._traced:
                counts: dict[str, int] = {}
                for event in events:
                    if event.traceparent:
                        counts[event.traceparent] = counts.get(event.traceparent, 0) + 1
                first: list[trace.Link] = []
                for traceparent, count in counts.items():
                    span = tracer.start_span(
                        "persist events",
                        context=context_of(traceparent),
                        attributes={"hearth.events": count},
                        links=first,
                    )
                    stack.callback(span.end)
                    if not first:
                        stack.enter_context(trace.use_span(span))
                        first = [trace.Link(span.get_span_context())]
            yield


def _calls(valid: Sequence[_Valid]) -> Iterator[Sequence[_Valid]]:
    return by_size(valid, lambda v: len(v.entry.value), limit=CALL_BYTES)
