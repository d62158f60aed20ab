"""The FastStream consumer of `hearth.events`: takes batches as a member of the group `log-writers`."""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Sequence

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from hearth_runtime.events import EVENTS_STREAM, Event, StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.lifecycle import pause
from hearth_runtime.redis_streams import ensure_group, wait_for_redis
from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from log_service.entries import StreamEntry, entries_of, place_of
from log_service.persistence import Interrupted, Persistence
from log_service.watermark import WRITERS_GROUP

POLL_MILLISECONDS = 100
# From the beginning of one batch to the next at least: a batch costs storage-service about the same, whatever it holds.
GATHER_SECONDS = 0.05
WATCH_SECONDS = 0.2
# An entry that was given to so many consumers, none of which could persist it, is what they die of.
MAX_DELIVERIES = 20
# A consumer of a process that is gone has long stopped asking; until then its pending entries were taken over.
FORGET_CONSUMER_SECONDS = 3600.0

# Its own logger writes to stderr by itself, and every batch is news to it.
FASTSTREAM_LOG = logging.getLogger("log_service.faststream")
FASTSTREAM_LOG.setLevel(logging.WARNING)


class EventConsumer:
    """Takes entries, has them persisted, and takes over what others left. One batch is in hand at a time.

    Nothing is acknowledged by FastStream: an entry leaves the group's pending list when it is persisted or dead.
    """

    def __init__(
        self,
        redis: Redis,
        persistence: Persistence,
        *,
        url: str,
        batch: int,
        claim_seconds: float,
        grace_seconds: float,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._redis = redis
        self._persistence = persistence
        self._batch = batch
        self._claim_seconds = claim_seconds
        self._grace_seconds = grace_seconds
        self._in_hand = asyncio.Lock()
        self._lost: list[Event] = []
        self._broker = RedisBroker(
            url,
            apply_types=False,
            graceful_timeout=grace_seconds * 0.4,
            logger=FASTSTREAM_LOG,
            log_level=logging.DEBUG,
        )
        self._subscriber = self._broker.subscriber(
            stream=StreamSub(
                EVENTS_STREAM,
                group=WRITERS_GROUP,
                consumer=self.name,
                batch=True,
                max_records=batch,
                polling_interval=POLL_MILLISECONDS,
            ),
            ack_policy=AckPolicy.MANUAL,
            parser=_parse,
            decoder=_decode,
            no_reply=True,
        )
        self._subscriber(self._on_batch)

    async def run(self, stopping: asyncio.Event) -> None:
        """Consumes until `stopping` is set, then finishes the batch in hand. Waits while Redis is away."""
        working = asyncio.create_task(self._work(stopping))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({working}, timeout=self._grace_seconds * 0.3)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stop.cancel()
            await asyncio.gather(working, stop, return_exceptions=True)
            await self._broker.stop()

    async def _work(self, stopping: asyncio.Event) -> None:
        """Keeps the subscriber going, and sees to what it does not: entries of others, and lost ones."""
        if not await wait_for_redis(self._redis, stopping):
            return
        looked_at = -math.inf
        try:
            while not stopping.is_set():
                try:
                    await self._subscribe()
                    if time.monotonic() - looked_at > self._claim_seconds / 3:
                        await self._take_over()
                        await self._forget_consumers()
                        looked_at = time.monotonic()
                except ResponseError as error:
                    # Redis was flushed in between: the next round makes the group again.
                    logger.warning("the event stream or its group is gone", error=str(error))
                except (RedisError, OSError) as error:
                    logger.warning("persisting events waits for Redis", error=repr(error))
                await self._store_lost()
                await pause(stopping, WATCH_SECONDS)
        except Interrupted:
            logger.info("stopped while events waited to be persisted; they are taken over")

    def rescue(self, events: Sequence[Event]) -> None:
        """Has events persisted that are in memory alone."""
        self._lost.extend(events)

    async def _subscribe(self) -> None:
        """Starts the subscriber, at first and when FastStream has stopped it since the group was gone."""
        if self._subscriber.running:
            return
        # FastStream itself would create the group at the stream's end and so skip what is there.
        await ensure_group(self._redis, EVENTS_STREAM, WRITERS_GROUP)
        await self._broker.connect()
        await self._subscriber.start()
        logger.info("persisting events", group=WRITERS_GROUP, consumer=self.name)

    async def _on_batch(self, entries: list[StreamEntry]) -> None:
        began = time.monotonic()
        async with self._in_hand:
            try:
                await self._persistence.persist(entries, given_up={})
            except Interrupted:
                logger.info("stopped with a batch in hand; it is taken over", entries=len(entries))
        if len(entries) < self._batch:
            await asyncio.sleep(max(0.0, began + GATHER_SECONDS - time.monotonic()))

    async def _take_over(self) -> None:
        """Persists what a consumer took and did not acknowledge for `claim_seconds`.

        Not by a second FastStream subscriber with `min_idle_time`: that claims one entry at a time, and would claim
        the batch that waits in the first one's hands for storage-service to return.
        """
        if self._in_hand.locked():
            return
        async with self._in_hand:
            while await self._claim():
                pass

    async def _claim(self) -> bool:
        """Takes over a batch; tells whether there may be more."""
        answer = await self._redis.xautoclaim(
            EVENTS_STREAM,
            WRITERS_GROUP,
            self.name,
            min_idle_time=int(self._claim_seconds * 1000),
            count=self._batch,
        )
        claimed = answer[1]
        if not claimed:
            return False
        # Redis 6 gives nothing for an entry that was deleted, and leaves it pending: it is known by its absence.
        entries = entries_of(pair for pair in claimed if pair[0] is not None)
        pending = await self._redis.xpending_range(
            EVENTS_STREAM, WRITERS_GROUP, min="-", max="+", count=self._batch, consumername=self.name
        )
        deliveries = {place_of(p["message_id"]): int(p["times_delivered"]) for p in pending}
        await self._acknowledge_deleted([place for place in deliveries if place not in {e.place for e in entries}])
        given_up = {
            place: f"it was delivered {count} times and never persisted"
            for place, count in deliveries.items()
            if count > MAX_DELIVERIES
        }
        if entries:
            logger.warning("taking over events of another consumer", entries=len(entries))
            await self._persistence.persist(entries, given_up=given_up)
        return len(claimed) == self._batch

    async def _acknowledge_deleted(self, places: Sequence[StreamId]) -> None:
        for place in places:
            if not await self._redis.xrange(EVENTS_STREAM, min=str(place), max=str(place)):
                logger.error("an event was deleted from Redis before it was persisted", stream_id=str(place))
                await self._redis.xack(EVENTS_STREAM, WRITERS_GROUP, str(place))

    async def _forget_consumers(self) -> None:
        """Removes consumers of processes that are long gone. One that lives asks ten times a second."""
        for consumer in await self._redis.xinfo_consumers(EVENTS_STREAM, WRITERS_GROUP):
            if consumer["pending"] == 0 and consumer["idle"] > FORGET_CONSUMER_SECONDS * 1000:
                await self._redis.xgroup_delconsumer(EVENTS_STREAM, WRITERS_GROUP, consumer["name"])

    async def _store_lost(self) -> None:
        if not self._lost:
            return
        lost, self._lost = self._lost, []
        async with self._in_hand:
            await self._persistence.store_lost(lost)


async def _parse(message: BatchStreamMessage) -> RedisBatchStreamMessage:
    """FastStream's own parser expects the envelope of its publisher; events are published by a plain XADD."""
    return RedisBatchStreamMessage(raw_message=message, body=b"", consumer=FAKE_CONSUMER, group=None)


async def _decode(message: RedisBatchStreamMessage) -> list[StreamEntry]:
    raw = message.raw_message
    return entries_of(zip(raw["message_ids"], raw["data"], strict=True))
