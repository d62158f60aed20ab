"""The doorbell: news over Redis that a task waits, or that one is to be cancelled.

It may ring twice, and it may not be heard: the row is the truth, and the dispatcher rings again.
See docs/adr/0002-doorbells-are-not-acknowledged.md.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from faststream.redis import RedisBroker
from hearth_runtime.events import StreamId
from hearth_runtime.redis_streams import CONTROL_CHANNEL, tasks_stream
from hearth_runtime.tasks import DOCUMENTS, RUNS
from loguru import logger
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from agent_service.settings import QueueSettings

WORKERS_GROUP = "agent-workers"
# One key for each worker: Redis 6.2 does not note when a consumer that gets nothing last asked.
WORKER_KEYS = "hearth.worker."
WORKER_HEARD_SECONDS = 10
# A client waits for its 202 meanwhile, so an absent Redis must not cost it more than this.
TIMEOUT_SECONDS = 1.0


class Doorbell(BaseModel):
    """The message on a stream of doorbells, and on `hearth.control` for a task to be cancelled."""

    task_id: str


class Bell:
    """Rings on the stream of a queue; tells every worker on `hearth.control`. Neither raises where Redis is away."""

    def __init__(self, broker: RedisBroker, redis: Redis) -> None:
        self._broker = broker
        self._redis = redis

    async def ring(self, task_id: str, *, queue: str) -> bool:
        """Wakes one worker for the task; tells whether Redis took it."""
        return await self._send(task_id, stream=tasks_stream(queue))

    async def tell_cancel(self, task_id: str) -> bool:
        """Tells all workers; whoever runs the task stops it."""
        return await self._send(task_id, channel=CONTROL_CHANNEL)

    async def _send(self, task_id: str, *, stream: str | None = None, channel: str | None = None) -> bool:
        message = Doorbell(task_id=task_id)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if stream is not None:
                    await self._broker.publish(message, stream=stream)
                else:
                    await self._broker.publish(message, channel=channel)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("Redis took no message; the row will bring it", task_id=task_id, error=repr(error))
            return False
        return True

    async def newest(self, queue: str) -> StreamId | None:
        """The last doorbell that has rung, and is not forgotten. Raises RedisError or OSError where Redis is away."""
        found: Any = await self._redis.xrevrange(tasks_stream(queue), count=1)
        return StreamId.parse(found[0][0].decode()) if found else None

    async def forget(self, queue: str, *, before: StreamId) -> None:
        """Takes back what rang before, whether a worker has heard it or not. Raises RedisError or OSError where Redis
        is away."""
        await self._redis.xtrim(tasks_stream(queue), minid=str(before), approximate=False)

    async def delivered_before(self, queue: str) -> datetime | None:
        """The time up to which doorbells of the queue have reached a worker; None where none is left to deliver.

        Trims what was delivered. Raises RedisError or OSError where Redis is away.
        """
        name = tasks_stream(queue)
        try:
            stream = await self._redis.xinfo_stream(name)
            groups = await self._redis.xinfo_groups(name)
        except ResponseError:  # no such stream: nothing was rung, or Redis was flushed
            return None
        delivered = next((g["last-delivered-id"] for g in groups if g["name"] == WORKERS_GROUP.encode()), None)
        if delivered is None or stream["length"] == 0:
            return None
        await self._redis.xtrim(name, minid=delivered, approximate=True)
        if delivered == stream["last-generated-id"]:
            return None
        return datetime.fromtimestamp(StreamId.parse(delivered.decode()).milliseconds / 1000, UTC)

    async def announce_worker(self, worker_id: str, queues: Sequence[str]) -> None:
        """Says that this worker serves these queues; it counts until WORKER_HEARD_SECONDS later."""
        await self._redis.set(f"{WORKER_KEYS}{worker_id}", ",".join(queues), ex=WORKER_HEARD_SECONDS)

    async def dismiss_worker(self, worker_id: str, queues: Sequence[str]) -> None:
        """Says that it no longer does."""
        await self._redis.delete(f"{WORKER_KEYS}{worker_id}")
        for queue in queues:
            await self._redis.xgroup_delconsumer(tasks_stream(queue), WORKERS_GROUP, worker_id)

    async def workers(self) -> list[frozenset[str]]:
        """For each worker that listens, the queues that it serves."""
        keys = [key async for key in self._redis.scan_iter(match=f"{WORKER_KEYS}*", count=1000)]
        values: list[Any] = await self._redis.mget(keys) if keys else []
        told = [value.decode() for value in values if value is not None]
        # One of a version that named none serves the queues that there were.
        return [frozenset(value.split(",")) if value else frozenset((RUNS, DOCUMENTS)) for value in told]


def broker_of(settings: QueueSettings) -> RedisBroker:
    """FastStream's broker, logging through the standard library and so through Loguru; traced where anything is."""
    broker = RedisBroker(settings.redis_url, logger=logging.getLogger("broker"), log_level=logging.DEBUG)
    if settings.otlp_endpoint is not None:
        from faststream.redis.opentelemetry import RedisTelemetryMiddleware

        broker.add_middleware(RedisTelemetryMiddleware())
    return broker
