"""How far events are persisted, and what follows from it: what may leave the window and the stream."""

import asyncio
import time

from hearth_runtime.events import EVENTS_STREAM, StreamId
from hearth_runtime.lifecycle import pause
from hearth_runtime.redis_streams import DEAD_STREAM
from loguru import logger
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from log_service.entries import place_of
from log_service.window import BEGINNING, Window

WRITERS_GROUP = "log-writers"

DEAD_LETTERS = Gauge("hearth_dead_letters_count", "Entries of the event stream that could not be persisted")
LAG = Gauge("hearth_event_lag_seconds", "Age of the oldest event that is not persisted; 0 where all are")


class Watermark:
    """The place up to which every event is persisted, by all log-services together.

    What the group was given and has acknowledged is persisted. It never moves back: what was persisted stays so when
    Redis loses the group, and ids given later are greater, since they begin with the time.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.place = BEGINNING

    async def refresh(self) -> bool:
        """Asks Redis; tells whether the group is there. Raises RedisError or OSError where Redis does not answer."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xinfo_groups(EVENTS_STREAM)
            pipe.xpending(EVENTS_STREAM, WRITERS_GROUP)
            try:
                groups, pending = await pipe.execute()
            except ResponseError:  # no such stream, or no such group: Redis was flushed, or nobody was here before
                return False
        delivered = next(place_of(g["last-delivered-id"]) for g in groups if g["name"] == WRITERS_GROUP.encode())
        oldest = place_of(pending["min"]) if pending["pending"] else None
        self.place = max(self.place, delivered if oldest is None else oldest.before())
        if oldest is None:
            waiting = await self._redis.xrange(EVENTS_STREAM, min=f"({delivered}", count=1)
            oldest = place_of(waiting[0][0]) if waiting else None
        LAG.set(max(0.0, time.time() - oldest.milliseconds / 1000) if oldest is not None else 0.0)
        return True


class Retention:
    """Keeps window and stream at the size that the settings say, and what is not persisted in both; counts the dead."""

    def __init__(self, redis: Redis, window: Window, watermark: Watermark, *, seconds: float) -> None:
        self._redis = redis
        self._window = window
        self._watermark = watermark
        self._seconds = seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks again and again until `stopping` is set."""
        while not await pause(stopping, self._seconds):
            try:
                await self.look()
            except (RedisError, OSError) as error:
                logger.warning("events are not trimmed while Redis is away", error=repr(error))

    async def look(self) -> None:
        """Evicts and trims once. Raises RedisError or OSError where Redis does not answer."""
        has_group = await self._watermark.refresh()
        DEAD_LETTERS.set(await self._redis.xlen(DEAD_STREAM))
        self._window.evict(self._watermark.place)
        if has_group and self._window.ready:
            # The stream keeps what the window keeps, so that a replica that starts can rebuild the same.
            keep_from: StreamId = min(self._window.floor, self._watermark.place).after()
            await self._redis.xtrim(EVENTS_STREAM, minid=str(keep_from), approximate=False)
