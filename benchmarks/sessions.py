"""What a cache of sessions would buy: `python benchmarks/sessions.py`. See docs/adr/0008-sessions-have-no-cache.md.

Reads a task with its session's turns as ClaimTask does, and the same without the turns and then those from Redis, in
turn, on servers of its own. Prints medians in milliseconds.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from hearth_runtime.identifiers import new_id
from redis.asyncio import Redis
from storage_service.database import Database, open_database
from storage_service.migrate import migrate
from storage_service.settings import StorageSettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from servers.postgres_server import PostgresServer
from servers.redis_server import RedisServer

ROUNDS = 300
SIZES = ((6, 400), (40, 400), (40, 2000), (400, 2000))  # turns, and characters of each
WITH_TURNS = """
    SELECT
        tasks.*, summary,
        jsonb_path_query_array(
            session_data, '$.turns[$from to last]',
            jsonb_build_object(
                'from', greatest(0, summarized_turns - coalesce((session_data ->> 'dropped')::integer, 0))
            )
        ) AS turns
    FROM tasks LEFT JOIN sessions ON sessions.id = session_id WHERE tasks.id = $1
"""
WITHOUT_TURNS = """
    SELECT tasks.*, summary, sessions.updated_at
    FROM tasks LEFT JOIN sessions ON sessions.id = session_id WHERE tasks.id = $1
"""


async def session_of(database: Database, turns: list[dict[str, str]]) -> tuple[str, str]:
    """A task, and its session of these turns: their ids."""
    agent_id, session_id, task_id = new_id(), new_id(), new_id()
    await database.fetch(
        "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'a', '', 'm', '{}')", agent_id
    )
    await database.fetch(
        "INSERT INTO sessions (id, agent_id, session_data) VALUES ($1, $2, $3)", session_id, agent_id, {"turns": turns}
    )
    await database.fetch(
        "INSERT INTO tasks (id, agent_id, session_id, status, input, max_retries, request_hash, traceparent,"
        " next_attempt_at) VALUES ($1, $2, $3, 'pending', '{}', 3, '', '', now())",
        task_id,
        agent_id,
        session_id,
    )
    return task_id, session_id


async def measure(database: Database, redis: Redis, count: int, characters: int) -> str:
    """A line about a session of so many turns."""
    turns = [{"role": "user", "content": f"{n} word " * (characters // 7)} for n in range(count)]
    task_id, session_id = await session_of(database, turns)
    text = orjson.dumps(turns)
    await redis.set(session_id, text)
    row: list[float] = []
    cached: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = await database.fetchrow(WITH_TURNS, task_id)
        row.append(time.perf_counter() - began)
        began = time.perf_counter()
        await database.fetchrow(WITHOUT_TURNS, task_id)
        value: Any = await redis.get(session_id)
        same = orjson.loads(value)
        cached.append(time.perf_counter() - began)
        assert found is not None
        assert found["turns"] == same
    return (
        f"{count} turns, {len(text) // 1024} KiB: from the row {statistics.median(row) * 1000:.2f} ms, "
        f"without turns and then from Redis {statistics.median(cached) * 1000:.2f} ms\n"
    )


async def main() -> None:
    """Measures each size."""
    postgres, server = PostgresServer(), RedisServer()
    postgres.start()
    server.start()
    try:
        settings = StorageSettings(database_url=postgres.get_uri())
        await migrate(settings)
        redis = Redis.from_url(server.url)
        async with open_database(settings) as database:
            for count, characters in SIZES:
                sys.stdout.write(await measure(database, redis, count, characters))
        await redis.aclose()
    finally:
        server.remove()
        postgres.remove()


if __name__ == "__main__":
    asyncio.run(main())
