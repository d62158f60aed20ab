"""Backup and restore as docs/operations.md says it: dumped under work, restored into an empty database, runs go on."""

import asyncio
import os
import re
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent_service.settings import WorkerSettings
from hearth.log.v1 import log_service_pb2
from hearth.storage.v1 import event_store_pb2
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import TaskStatus
from redis.asyncio import Redis
from servers.agent_bench import OUTPUT, bench_with
from servers.chain import Chain, Hanging, quick
from servers.postgres_server import PostgresServer, programs
from storage_service.migrate import migrate
from storage_service.settings import StorageSettings
from system.waiting import eventually

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
DOCUMENT = """
WITH collection AS (
    INSERT INTO collections (id, name, description, embedding_model, chunk_tokens)
    VALUES ($1::uuid, $1::uuid::text, '', 'm', 9)
    RETURNING id
), document AS (
    INSERT INTO documents (id, collection_id, name, media_type, size_bytes, content_hash, metadata)
    SELECT $2, id, 'd', 't', 1, 'h', '{}' FROM collection
    RETURNING id
)
INSERT INTO chunks (document_id, number, text, headings, span_start, span_end)
SELECT id, 1, 'words', '[]', 0, 5 FROM document
RETURNING id
"""


def command(program: str) -> str:
    """What the page says to run."""
    (found,) = re.findall(rf"^{program} .*$", PAGE.read_text(), re.MULTILINE)
    return str(found)


async def run(program: str, folder: Path, **environment: str) -> None:
    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", command(program)],
            cwd=folder,
            env=os.environ | environment | {"PATH": f"{programs()}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    ended = await asyncio.to_thread(call)
    assert ended.returncode == 0, ended.stderr


async def test_a_dump_that_is_restored_goes_on_with_what_ran(
    new_database: Callable[[], Awaitable[str]],
    open_storage: Callable[..., AbstractAsyncContextManager[Any]],
    own_postgres: PostgresServer,
    redis: Redis,
    redis_url: str,
    tmp_path: Path,
) -> None:
    url = await new_database()
    settings = WorkerSettings(redis_url=redis_url, lease_seconds=1, lease_heartbeat_seconds=0.1, grace_seconds=2)
    hanging = Hanging()
    chain = Chain(first=quick, second=hanging, third=quick)
    async with open_storage(url) as storage, bench_with(storage, redis, settings) as bench:
        done = await storage.new_task()
        _, ended = await bench.run_task(done, Chain(only=quick))
        await ended
        await bench.keep_events(done)
        cut, queued = await storage.new_task(), await storage.new_task()
        _, running = await bench.run_task(cut, chain)
        async with asyncio.timeout(10):
            await hanging.reached.wait()
        (chunk,) = await storage.sql(DOCUMENT, new_id(), new_id())
        await run("pg_dumpall", tmp_path, DATABASE_URL=url)
        await run("pg_dump", tmp_path, DATABASE_URL=url)
        # What comes after the dump is lost with the machine.
        await storage.new_task()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    # Another server, which knows nothing of Hearth.
    restored = own_postgres.get_uri()
    await run("psql", tmp_path, EMPTY_DATABASE_URL=restored)
    await run("pg_restore", tmp_path, EMPTY_DATABASE_URL=restored)
    await redis.flushall()
    await migrate(StorageSettings(database_url=restored))

    async with open_storage(restored) as storage, bench_with(storage, redis, settings) as bench:
        assert (await bench.stored.get(done)).output == {**OUTPUT, "text": "only"}
        request = event_store_pb2.ListEventsRequest(page_size=100, filter=log_service_pb2.EventFilter(task_ids=[done]))
        assert len((await storage.events.ListEvents(request)).events) > 0

        async def is_found() -> bool:
            await bench.stored.take_due(limit=100, ring_again_after=timedelta(), delivered_before=None)
            return (await bench.stored.get(cut)).status is TaskStatus.PENDING

        await eventually(is_found, what="the end of the lost lease")
        for task_id, workflow in ((cut, chain), (queued, Chain(only=quick))):
            _, again = await bench.run_task(task_id, workflow)
            async with asyncio.timeout(10):
                await again
            assert (await bench.stored.get(task_id)).status is TaskStatus.COMPLETED
        assert chain.begun == ["first", "second", "second", "third"]
        assert {str(row["id"]) for row in await storage.sql("SELECT id FROM tasks")} == {done, cut, queued}
        (another,) = await storage.sql(DOCUMENT, new_id(), new_id())
        assert another["id"] > chunk["id"]
        # New work is accepted as ever.
        _, ended = await bench.run_task(await storage.new_task(), Chain(only=quick))
        await ended
