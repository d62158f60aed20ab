"""Publishes events to `hearth.events`: in order, in batches, kept while Redis is away."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from loguru import logger
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

BATCH = 500
LOOK_BACK = 4 * BATCH
RETRY_SECONDS = 0.2
RETRY_CAP_SECONDS = 5.0
LAST_CHANCE_SECONDS = 2.0

PUBLISHED = Counter("hearth_events_published_total", "Events that Redis took", ["kind"])
BUFFERED = Gauge("hearth_events_buffered_count", "Events that wait for Redis")


class EventPublisher:
    """One ordered buffer per process, drained by `run`.

    While it waits, a task's adjacent deltas are merged; nothing is dropped. When it is full, publishing waits.
    """

    def __init__(self, redis: Redis, *, limit: int) -> None:
        self._redis = redis
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._sending = 0
        self._accepted = 0
        self._sent = 0
        self._changed = asyncio.Condition()

    async def publish(self, event: Event) -> None:
        """Takes the event; waits while the buffer is full."""
        async with self._changed:
            if self._merge(event):
                return
            await self._changed.wait_for(lambda: len(self._waiting) < self._limit)
            self._waiting.append(event)
            self._accepted += 1
            BUFFERED.set(len(self._waiting))
            self._changed.notify_all()

    async def flush(self) -> None:
        """Waits until Redis has all that was published before."""
        async with self._changed:
            target = self._accepted
            await self._changed.wait_for(lambda: self._sent >= target)

    async def drained_after(self, main: Awaitable[None]) -> None:
        """Awaits `main`, then gives what still waits a last, short chance to go out."""
        await main
        try:
            async with asyncio.timeout(LAST_CHANCE_SECONDS):
                await self.flush()
        except TimeoutError:
            logger.error("events were lost at the end: Redis is away", count=len(self._waiting))

    async def run(self) -> None:
        """Drains the buffer until cancelled."""
        delay = RETRY_SECONDS
        is_certain = True
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
                self._sending = len(batch)
            try:
                arrived = frozenset() if is_certain else await self._arrived()
                await self._send([event for event in batch if event.id not in arrived])
            except (RedisError, OSError) as error:
                logger.warning("events wait for Redis", count=len(self._waiting), error=repr(error))
                # What was sent may have arrived, and only the answer be lost.
                is_certain = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_CAP_SECONDS)
                continue
            delay, is_certain = RETRY_SECONDS, True
            async with self._changed:
                for event in batch:
                    self._waiting.popleft()
                    PUBLISHED.labels(event.kind.value).inc()
                self._sending = 0
                self._sent += len(batch)
                BUFFERED.set(len(self._waiting))
                self._changed.notify_all()

    async def _send(self, batch: list[Event]) -> None:
        # Its order is kept without a transaction: one connection carries it.
        async with self._redis.pipeline(transaction=False) as pipe:
            for event in batch:
                pipe.xadd(EVENTS_STREAM, {EVENT_FIELD: event.encode()})
            await pipe.execute()

    async def _arrived(self) -> frozenset[str]:
        """The ids of the events that Redis was given last."""
        entries: Any = await self._redis.xrevrange(EVENTS_STREAM, count=LOOK_BACK)
        return frozenset(
            Event.decode(fields[EVENT_FIELD], stream_id="").id for _, fields in entries if EVENT_FIELD in fields
        )

    def _merge(self, event: Event) -> bool:
        """Adds a delta to the one before it, if that is the last that waits and is not being sent."""
        if event.kind is not EventKind.DELTA or len(self._waiting) <= self._sending:
            return False
        last = self._waiting[-1]
        if last.kind is not EventKind.DELTA or (last.task_id, last.attempt) != (event.task_id, event.attempt):
            return False
        self._waiting[-1] = replace(last, message=last.message + event.message)
        return True


class RunEvents:
    """The events of one attempt of a task."""

    def __init__(
        self, publisher: EventPublisher, *, task_id: str, agent_id: str, attempt: int, traceparent: str
    ) -> None:
        self._publisher = publisher
        self._task_id = task_id
        self._agent_id = agent_id
        self._attempt = attempt
        self._traceparent = traceparent

    async def publish(
        self,
        kind: EventKind,
        *,
        message: str,
        level: EventLevel = EventLevel.INFO,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """Publishes one event of this attempt."""
        await self._publisher.publish(
            Event(
                stream_id="",
                id=new_id(),
                task_id=self._task_id,
                agent_id=self._agent_id,
                attempt=self._attempt,
                kind=kind,
                level=level,
                message=message,
                context=dict(context or {}),
                timestamp=datetime.now(UTC),
                traceparent=self._traceparent,
            )
        )

    async def log(self, level: EventLevel, message: str, **context: Any) -> None:
        """A line for people."""
        await self.publish(EventKind.LOG, level=level, message=message, context=context)

    async def status(self, status: str, message: str, *, level: EventLevel = EventLevel.INFO, **context: Any) -> None:
        """The task's state changed."""
        await self.publish(EventKind.STATUS, level=level, message=message, context={"status": status, **context})

    async def step(self, step: str, phase: str, **context: Any) -> None:
        """A step of the graph began or ended."""
        await self.publish(EventKind.STEP, message=f"{step} {phase}", context={"step": step, "phase": phase, **context})

    async def delta(self, text: str) -> None:
        """A piece of the model's answer."""
        await self.publish(EventKind.DELTA, level=EventLevel.DEBUG, message=text)

    async def flush(self) -> None:
        """Waits until Redis has all of them."""
        await self._publisher.flush()
