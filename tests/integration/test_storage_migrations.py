"""The migrations: up, down and up again on data, alone under their lock, from the command line."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from hearth_runtime.identifiers import new_id
from storage_service.migrate import LOCK, MigrationError, migrate
from storage_service.settings import StorageSettings

REVISIONS = files("storage_service").joinpath("migrations", "versions").iterdir()
*_, PREVIOUS, HEAD = sorted(file.name[1:5] for file in REVISIONS if file.name.startswith("r"))
TABLES = {
    "agents",
    "agent_tools",
    "tasks",
    "task_attempts",
    "sessions",
    "task_logs",
    "log_subscriptions",
    "embeddings",
    "checkpoints",
    "checkpoint_writes",
    "tool_calls",
    "memories",
    "collections",
    "documents",
    "document_parts",
    "document_texts",
    "chunks",
    "chunk_vectors",
    "task_histories",
    "task_requests",
}
TASK = (
    "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at, rung_at,"
    " lease_expires_at, completed_at) VALUES ($1, $2, $3, '{}', 3, '', '', $4, $5, $6, $7)"
)


@pytest.fixture
async def empty_url(postgres: Any) -> str:
    """A database with nothing in it."""
    name = f"empty_{new_id().replace('-', '')}"
    connection = await asyncpg.connect(postgres.get_uri())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return str(postgres.get_uri(name))


async def query(url: str, sql: str, *args: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()


async def tables(url: str) -> set[str]:
    rows = await query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows} - {"alembic_version"}


async def test_up_down_and_up_again_on_data(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    assert "at revision base" in await migrate(settings, "current")
    for _ in range(2):
        assert await migrate(settings) == f"The database is at revision {HEAD}."
        assert await tables(empty_url) == TABLES
        agent_id, task_id = new_id(), new_id()
        await query(
            empty_url,
            "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'a', '', 'm', '{}')",
            agent_id,
        )
        await query(
            empty_url,
            "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at)"
            " VALUES ($1, $2, 'pending', '{}', 3, '', '', now())",
            task_id,
            agent_id,
        )
        await query(
            empty_url,
            "INSERT INTO embeddings (id, task_id, vector, content_hash, model) VALUES ($1, $2, '[1,2,3]', 'h', 'm')",
            new_id(),
            task_id,
        )
        assert await migrate(settings, "downgrade") == f"The database is at revision {PREVIOUS}."
        assert await query(empty_url, "SELECT FROM tasks WHERE id = $1", task_id)
        assert await migrate(settings, "downgrade", "base") == "The database is at revision base."
        assert await tables(empty_url) == set()
        assert await migrate(settings, "downgrade", "base") == "The database is at revision base."
    assert await migrate(settings, "upgrade", "0001") == "The database is at revision 0001."
    with pytest.raises(MigrationError, match="nope"):
        await migrate(settings, "upgrade", "nope")


async def test_tasks_of_the_revision_before_wait_run_and_end_as_they_did(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    await migrate(settings, "upgrade", "0001")
    agent_id, now = new_id(), datetime.now(UTC)
    agent = "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'a', '', 'm', '{}')"
    await query(empty_url, agent, agent_id)
    queued, backing_off, running, done = [new_id() for _ in range(4)]
    await query(empty_url, TASK, queued, agent_id, "pending", now, now, None, None)
    await query(empty_url, TASK, backing_off, agent_id, "pending", now, None, None, None)
    await query(empty_url, TASK, running, agent_id, "running", None, None, now, None)
    await query(empty_url, TASK, done, agent_id, "completed", None, None, None, now)
    await migrate(settings)
    rows = {str(row["id"]): row for row in await query(empty_url, "SELECT * FROM tasks")}
    assert {task_id: rows[task_id]["turn"] for task_id in rows} == {
        queued: 0, backing_off: None, running: None, done: None
    }  # fmt: skip
    assert not any(row["end_unsettled"] for row in rows.values())


async def test_sessions_of_the_revision_before_keep_their_turns(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    await migrate(settings, "upgrade", "0005")
    agent_id, session_id = new_id(), new_id()
    agent = "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'a', '', 'm', '{}')"
    await query(empty_url, agent, agent_id)
    data = '{"turns": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}'
    await query(
        empty_url, "INSERT INTO sessions (id, agent_id, session_data) VALUES ($1, $2, $3)", session_id, agent_id, data
    )
    await migrate(settings)
    (row,) = await query(empty_url, "SELECT * FROM sessions")
    assert (row["turn_count"], row["summarized_turns"], row["summary"], row["title"]) == (2, 0, None, None)
    assert await migrate(settings, "downgrade", "0005") == "The database is at revision 0005."
    (row,) = await query(empty_url, "SELECT session_data ->> 'turns' AS turns FROM sessions")
    assert "ho" in row["turns"]


async def test_the_extension_and_the_indexes_are_there(empty_url: str) -> None:
    await migrate(StorageSettings(database_url=empty_url))
    assert await query(empty_url, "SELECT FROM pg_extension WHERE extname = 'vector'")
    rows = await query(empty_url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")
    definitions = "\n".join(row["indexdef"] for row in rows)
    for part in (
        'ON public.task_logs USING btree (task_id, "timestamp")',
        'ON public.task_logs USING btree (agent_id, "timestamp")',
        'ON public.task_logs USING btree (level, "timestamp")',
        "UNIQUE INDEX task_logs_stream_id ON public.task_logs USING btree (stream_id)",
        "UNIQUE INDEX tasks_idempotency_key ON public.tasks USING btree (idempotency_key)",
        "UNIQUE INDEX agent_tools_name ON public.agent_tools USING btree (agent_id, name)",
    ):
        assert part in definitions


async def test_an_embedding_model_can_have_an_index_of_its_own(empty_url: str) -> None:
    await migrate(StorageSettings(database_url=empty_url))
    await query(
        empty_url,
        "CREATE INDEX ON embeddings USING hnsw ((vector::vector(3)) vector_cosine_ops) WHERE model = 'm'",
    )


async def test_two_migrations_at_once_wait_for_each_other(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    assert set(await asyncio.gather(*(migrate(settings) for _ in range(4)))) == {f"The database is at revision {HEAD}."}


async def test_a_migration_that_hangs_is_not_waited_for_for_ever(empty_url: str) -> None:
    other = await asyncpg.connect(empty_url)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        with pytest.raises(MigrationError, match="no other migration hangs"):
            await migrate(StorageSettings(database_url=empty_url, migrate_wait_seconds=0.5))
    finally:
        await other.close()


async def test_the_command_line(empty_url: str) -> None:
    async def run(*arguments: str, url: str = empty_url) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "storage_service.migrate", *arguments],
            env=os.environ | {"HEARTH_DATABASE_URL": url, "HEARTH_MIGRATE_WAIT_SECONDS": "0.5"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert (await run("current")).stdout == f"The database is at revision base; the newest is {HEAD}.\n"
    assert (await run()).stdout == f"The database is at revision {HEAD}.\n"
    assert (await run("downgrade")).stdout == f"The database is at revision {PREVIOUS}.\n"
    failed = await run(url="postgresql://nobody@/none?host=/nowhere")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1].startswith("PostgreSQL was not ready within 0.5 seconds.")
