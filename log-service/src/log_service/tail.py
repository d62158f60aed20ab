"""Follows the event stream with one plain XREAD and keeps the live window."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from hearth_runtime.events import EVENTS_STREAM, Event, StreamId
from hearth_runtime.lifecycle import run_with
from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from log_service.entries import NotAnEvent, StreamEntry, entries_of, place_of
from log_service.watermark import Watermark
from log_service.window import Entry, Window

BLOCK_MILLISECONDS = 1000
# Between two reads while nobody waits for what they bring: few large ones cost far less than many small ones.
UNWATCHED_SECONDS = 0.05
RETRY_SECONDS = 0.5
# A client waits for its stream to open meanwhile.
LATEST_TIMEOUT_SECONDS = 1.0


class Tail:
    """Reads every event once, in order. `redis` is its own, since reading blocks a connection.

    `rescue` takes events that only this window still has, so that they are persisted all the same.
    """

    def __init__(
        self,
        redis: Redis,
        window: Window,
        watermark: Watermark,
        *,
        batch: int,
        rescue: Callable[[Sequence[Event]], None],
    ) -> None:
        self._redis = redis
        self._window = window
        self._watermark = watermark
        self._batch = batch
        self._rescue = rescue

    async def run(self, stopping: asyncio.Event) -> None:
        """Follows until `stopping` is set, then wakes all subscribers so that they see it."""
        try:
            await run_with(stopping.wait(), self._follow())
        finally:
            self._window.wake()

    async def latest(self) -> StreamId:
        """The place of the last event in Redis, or of the last one read where Redis has no stream.

        Raises RedisError or OSError where Redis does not answer.
        """
        async with asyncio.timeout(LATEST_TIMEOUT_SECONDS):
            with suppress(ResponseError):  # no such stream
                return place_of((await self._redis.xinfo_stream(EVENTS_STREAM))["last-generated-id"])
        return self._window.end

    async def _follow(self) -> None:
        away = False
        while True:
            try:
                await self._read()
                away = False
            except (RedisError, OSError) as error:
                if not away:
                    logger.warning("live events wait for Redis", error=repr(error))
                away = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self) -> None:
        window = self._window
        if not window.ready:
            window.restart(await self._beginning())
        await window.room()
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xread({EVENTS_STREAM: str(window.end)}, count=self._batch, block=BLOCK_MILLISECONDS)
            # Asked after reading: what was not trimmed now was not trimmed then.
            pipeline.xrange(EVENTS_STREAM, count=1)
            answer, head = await pipeline.execute()
        if not answer:
            return
        entries = entries_of(answer[0][1])
        if not head or place_of(head[0][0]) > window.end:
            await self._bridge(entries[0].place)
        window.append([e for e in map(_known, entries) if e is not None], end=entries[-1].place)
        if len(entries) < self._batch:
            await window.awaited(timeout=UNWATCHED_SECONDS)

    async def _beginning(self) -> StreamId:
        """The place after which the stream still has everything."""
        # In this order: what is published after the question has an id of that time or later.
        seconds, microseconds = await self._redis.time()
        head = await self._redis.xrange(EVENTS_STREAM, count=1)
        place = place_of(head[0][0]) if head else StreamId(seconds * 1000 + microseconds // 1000, 0)
        return place.before()

    async def _bridge(self, first: StreamId) -> None:
        """Entries may be missing between the window's end and `first`: trimmed, or lost with all of Redis."""
        await self._watermark.refresh()
        if self._watermark.place >= self._window.end:
            # All that is missing is in PostgreSQL, and so is what the window holds: it begins anew.
            self._window.restart(first.before())
        elif len(self._window) > 0:
            # Nothing is trimmed before it is persisted, so Redis lost the stream: there is nothing in between.
            lost = self._window.following(self._watermark.place)
            logger.warning("Redis lost the event stream; live events go on", unpersisted_events=len(lost))
            self._rescue(lost)


def _known(entry: StreamEntry) -> Entry | None:
    try:
        return Entry(place=entry.place, event=entry.event(), size=len(entry.value))
    except NotAnEvent:  # the consumer reports it
        return None
