"""Redis as Hearth uses it: streams, their consumer groups, and waiting for a server that is not there yet."""

import asyncio

from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from hearth_runtime.dependencies import Dependency
from hearth_runtime.lifecycle import pause
from hearth_runtime.tasks import RUNS

TASKS_STREAM = "hearth.tasks"
CONTROL_CHANNEL = "hearth.control"
DEAD_STREAM = "hearth.dead"

RETRY_SECONDS = 0.5


def tasks_stream(queue: str) -> str:
    """The stream on which the doorbells of the queue ring."""
    return TASKS_STREAM if queue == RUNS else f"{TASKS_STREAM}.{queue}"


def connect(url: str) -> Redis:
    """A client of the server at `url` (redis://…, rediss://… or unix://PATH); nothing is sent before the first
    command."""
    return Redis.from_url(url, health_check_interval=30, socket_connect_timeout=5)


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Creates the consumer group at the stream's beginning, so that nothing published before it is skipped."""
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def wait_for_redis(redis: Redis, stopping: asyncio.Event) -> bool:
    """Waits until Redis answers or `stopping` is set; tells whether it answers."""
    waited = False
    while not stopping.is_set():
        try:
            await redis.ping()
        except (RedisError, OSError) as error:
            if not waited:
                logger.warning("waiting for Redis", error=str(error))
            waited = True
            await pause(stopping, RETRY_SECONDS)
        else:
            return True
    return False


def redis_dependency(redis: Redis, *, required: bool) -> Dependency:
    """Redis as a dependency to probe."""

    async def probe() -> str:
        await redis.ping()
        return ""

    return Dependency(
        name="redis",
        probe=probe,
        advice="Redis does not answer: check that it runs and that HEARTH_REDIS_URL names it. Accepted runs wait.",
        required=required,
    )
