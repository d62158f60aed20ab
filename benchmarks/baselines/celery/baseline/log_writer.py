"""The process that persists log lines: `python -m baseline.log_writer`."""

import asyncio
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from baseline.settings import ASYNC_DATABASE_URL, LOGS, REDIS_URL
from baseline.tables import TaskLog

GROUP = "log-writers"


async def main() -> None:
    """Reads the stream and inserts each line."""
    engine = create_async_engine(ASYNC_DATABASE_URL, pool_size=2)
    sessions = async_sessionmaker(engine)
    async with Redis.from_url(REDIS_URL, socket_timeout=None) as redis:
        try:
            await redis.xgroup_create(LOGS, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        while True:
            for _, entries in await redis.xreadgroup(GROUP, "writer", {LOGS: ">"}, count=100, block=5000):
                for entry_id, fields in entries:
                    async with sessions() as session, session.begin():
                        session.add(
                            TaskLog(
                                task_id=UUID(fields[b"task_id"].decode()),
                                level=fields[b"level"].decode(),
                                message=f"{fields[b'kind'].decode()}: {fields[b'text'].decode()}",
                            )
                        )
                    await redis.xack(LOGS, GROUP, entry_id)


if __name__ == "__main__":
    asyncio.run(main())
