"""Publishes events to `hearth.events`: in order, in batches, kept while Redis is away."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from hearth_runtime.events import EVENTS_STREAM, Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Pending, Task, TaskStatus
from loguru import logger
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

BATCH = 500
# The more tasks a batch told of, the longer the next one gathers, so that many live streams get fewer, longer deltas
# and not late ones.
GATHER_SECONDS_PER_TASK = 0.00075
GATHER_CAP_SECONDS = 0.1
PUBLISHER_KEYS = "hearth.publisher."
# How long Redis knows a task's attempt after its last new one, and a publisher's last batch.
REMEMBER_SECONDS = 6 * 3600
RETRY_SECONDS = 0.2
RETRY_CAP_SECONDS = 5.0
LAST_CHANCE_SECONDS = 2.0
# Of a sub-task's events, beside warnings and errors.
ROLLED_UP = (EventKind.STATUS, EventKind.STEP, EventKind.MESSAGE, EventKind.TOOL_CALL, EventKind.TOOL_RESULT)

PUBLISHED = Counter("hearth_events_published_total", "Events that Redis took", ["kind"])
OUTDATED = Counter("hearth_events_outdated_total", "Events that Redis did not take: an attempt's that was taken over")
BUFFERED = Gauge("hearth_events_buffered_count", "Events that wait for Redis")


@dataclass(slots=True, kw_only=True)
class _Waiting:
    event: Event
    ended: datetime | None
    copy: Event | None
    is_sending: bool = False


class EventPublisher:
    """One ordered buffer per process, drained by `run`.

    While it waits, a task's deltas that follow each other are merged; nothing is dropped. When it is full, publishing
    waits. Redis takes each batch whole and once, and no event of an attempt after the first one of the next
    (`publish.lua`).
    """

    def __init__(self, redis: Redis, *, limit: int) -> None:
        self._redis = redis
        self._limit = limit
        self._script = redis.register_script(files("agent_service").joinpath("publish.lua").read_text())
        self._key = f"{PUBLISHER_KEYS}{new_id()}"
        self._batches = 0
        self._waiting: deque[_Waiting] = deque()
        self._last: dict[str, _Waiting] = {}  # of each task
        self._accepted = 0
        self._sent = 0
        self._changed = asyncio.Condition()
        self._hurry = asyncio.Event()

    async def publish(self, event: Event, *, ended: datetime | None = None, copy: Event | None = None) -> None:
        """Takes the event; waits while the buffer is full. An event that tells of an end, or of a wait, names when
        it `ended`, or began: whoever tells of it again is not heard. `copy` is of another task,
        and follows the event where that is taken."""
        async with self._changed:
            if self._merge(event):
                return
            await self._changed.wait_for(lambda: len(self._waiting) < self._limit)
            self._last[event.task_id] = _Waiting(event=event, ended=ended, copy=copy)
            self._waiting.append(self._last[event.task_id])
            self._accepted += 1
            BUFFERED.set(len(self._waiting))
            self._changed.notify_all()

    async def flush(self) -> None:
        """Waits until Redis has all that was published before."""
        async with self._changed:
            target = self._accepted
            self._hurry.set()
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
        gather_seconds = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(gather_seconds):
                    await self._hurry.wait()
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                self._hurry.clear()
                batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
                for waiting in batch:
                    waiting.is_sending = True
            await self._send_surely(batch)
            async with self._changed:
                for sent in batch:
                    self._waiting.popleft()
                    if self._last[sent.event.task_id] is sent:
                        del self._last[sent.event.task_id]
                    PUBLISHED.labels(sent.event.kind.value).inc()
                self._sent += len(batch)
                BUFFERED.set(len(self._waiting))
                self._changed.notify_all()
            tasks = len({sent.event.task_id for sent in batch})
            is_behind = len(self._waiting) >= BATCH
            gather_seconds = 0.0 if is_behind else min(GATHER_SECONDS_PER_TASK * tasks, GATHER_CAP_SECONDS)

    async def _send_surely(self, batch: list[_Waiting]) -> None:
        """Sends the batch, as often as it takes. Where only the answer is lost, Redis knows the batch by its number."""
        self._batches += 1
        delay = RETRY_SECONDS
        while True:
            try:
                return await self._send(batch)
            except (RedisError, OSError) as error:
                logger.warning("events wait for Redis", count=len(self._waiting), error=repr(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_CAP_SECONDS)

    async def _send(self, batch: list[_Waiting]) -> None:
        arguments: list[str | int | bytes] = [self._batches, REMEMBER_SECONDS]
        for waiting in batch:
            event, ended = waiting.event, "" if waiting.ended is None else waiting.ended.isoformat()
            is_end = "1" if ended and TaskStatus(event.context["status"]).is_final else ""
            top, copy = ("", b"") if waiting.copy is None else (waiting.copy.task_id, waiting.copy.encode())
            arguments += [event.task_id, event.attempt, ended, is_end, event.encode(), top, copy]
        if left_out := await self._script(keys=[EVENTS_STREAM, self._key], args=arguments):
            OUTDATED.inc(left_out)

    def _merge(self, event: Event) -> bool:
        """Adds a delta to the one before it, if that is the last of its task that waits and is not being sent."""
        last = self._last.get(event.task_id)
        if last is None or last.is_sending or event.kind is not EventKind.DELTA:
            return False
        if last.event.kind is not EventKind.DELTA or last.event.attempt != event.attempt:
            return False
        last.event = replace(last.event, message=last.event.message + event.message)
        return True


class RunEvents:
    """The events of one attempt of a task. Those of a sub-task that say how it goes are told once more at the top of
    its tree, `root_task_id`, as events of the kind `sub_task`."""

    def __init__(
        self,
        publisher: EventPublisher,
        *,
        task_id: str,
        agent_id: str,
        attempt: int,
        traceparent: str,
        root_task_id: str | None = None,
        owner: str = "",
    ) -> None:
        self._publisher = publisher
        self._task_id = task_id
        self._agent_id = agent_id
        self._attempt = attempt
        self._traceparent = traceparent
        self._root_task_id = None if root_task_id == task_id else root_task_id
        self._owner = owner

    async def publish(
        self,
        kind: EventKind,
        *,
        message: str,
        level: EventLevel = EventLevel.INFO,
        context: Mapping[str, Any] | None = None,
        ended: datetime | None = None,
    ) -> None:
        """Publishes one event of this attempt; one that tells of the task's end has the time of it."""
        event = Event(
            stream_id="",
            id=new_id(),
            task_id=self._task_id,
            agent_id=self._agent_id,
            attempt=self._attempt,
            kind=kind,
            level=level,
            message=message,
            context=dict(context or {}),
            timestamp=ended or datetime.now(UTC),
            traceparent=self._traceparent,
            owner=self._owner,
        )
        copy = None if self._root_task_id is None else _rolled_up(event, self._root_task_id)
        await self._publisher.publish(event, ended=ended, copy=copy)

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

    async def ended(self, task: Task) -> None:
        """The task has ended, as its row tells. Whoever tells of the same end again is not heard."""
        failed = task.status is TaskStatus.FAILED
        context: dict[str, Any] = {"status": task.status.value}
        if failed:
            context["code"] = task.error_code
        await self.publish(
            EventKind.STATUS,
            level=EventLevel.ERROR if failed else EventLevel.INFO,
            message=(task.error_message or "failed") if failed else task.status.value,
            context=context,
            ended=task.completed_at,
        )

    async def waiting(self, task: Task) -> None:
        """The task waits, as its row tells. Whoever tells of the same wait again is not heard."""
        await self.publish(
            EventKind.STATUS,
            message=f"waiting for {', '.join(pending.name for pending in task.pending)}",
            context={"status": task.status.value, "pending": [_asked(pending) for pending in task.pending]},
            ended=task.waiting_since,
        )

    async def flush(self) -> None:
        """Waits until Redis has all of them."""
        await self._publisher.flush()


def _asked(pending: Pending) -> dict[str, Any]:
    """The pending thing, as clients know it."""
    asked: dict[str, Any] = {"id": pending.id, "kind": pending.kind.value, "name": pending.name}
    asked["arguments"] = pending.arguments
    if pending.expires_at is not None:
        asked["expires_at"] = pending.expires_at.isoformat()
    if pending.task_id is not None:
        asked["task_id"] = pending.task_id
    return asked


def _rolled_up(event: Event, root_task_id: str) -> Event | None:
    """The event of a sub-task as the top of its tree has it: of no attempt of that one's, and of a kind of its own, so
    that nothing takes it for the top's own. None for what only its own task's readers need."""
    if event.kind is EventKind.LOG:
        if event.level not in EventLevel.WARNING.and_worse():
            return None
    elif event.kind not in ROLLED_UP:
        return None
    origin = {"task_id": event.task_id, "agent_id": event.agent_id, "attempt": event.attempt}
    context = {"origin": origin, "kind": event.kind.value, "context": event.context}
    return replace(event, id=new_id(), task_id=root_task_id, attempt=0, kind=EventKind.SUB_TASK, context=context)
