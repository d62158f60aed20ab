"""Doorbells as they are on Redis's streams."""

from typing import Any

import orjson
from hearth_runtime.redis_streams import tasks_stream
from redis.asyncio import Redis


async def rung(redis: Redis, queue: str) -> list[str]:
    """The tasks of the doorbells that are left."""
    entries: Any = await redis.xrange(tasks_stream(queue))
    bodies = [fields[b"__data__"] for _, fields in entries]
    return [orjson.loads(body[body.index(b"{") :])["task_id"] for body in bodies]
