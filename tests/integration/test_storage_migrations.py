"""The migrations: up, down and up again on data, alone under their lock, from the command line."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from hearth_runtime.identifiers import new_id
from storage_service.migrate import LOCK, MigrationError, migrate
from storage_service.settings import StorageSettings

REVISIONS = files("storage_service").joinpath("migrations", "versions").iterdir()
NUMBERS = sorted(file.name[1:5] for file in REVISIONS if file.name.startswith("r"))
*_, PREVIOUS, HEAD = NUMBERS
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
    "api_keys",
    "tickets",
    "actions",
}
TASK = (
    "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at, rung_at,"
    " lease_expires_at, completed_at) VALUES ($1, $2, $3, '{}', 3, '', '', $4, $5, $6, $7)"
)


# The first revision after which code is upgraded while it runs: docs/development.md, "Add a migration".
RELEASED = "0009"
# What a revision takes away or asks for more of, by "revision object", and why no code of the release before minds.
REVIEWED = {
    "0011 tasks_idempotency_key": "it names no index in ON CONFLICT, and all its tasks have the same owner",
    "0011 collections_name_key": "it names no index in ON CONFLICT",
    "0011 collections_owner_name_key": "all its collections have the same owner, and were unique by their names",
    "0011 log_subscriptions_name_key": "it cannot keep the places of named subscriptions until it is replaced: its "
    "clients see events of a second again",
    "0011 log_subscriptions_owner_name_key": "all its subscriptions have the same owner, and were unique by name",
}
# Columns: their type, whether they may be left out, and whether they may be NULL. Rules: conditions and what is unique.
COLUMNS = """
SELECT
    format('%s.%s', table_name, column_name) AS name,
    jsonb_build_array(
        udt_name,
        column_default IS NOT NULL OR is_nullable = 'YES' OR is_identity = 'YES' OR is_generated = 'ALWAYS',
        is_nullable = 'YES'
    )::text AS what
FROM information_schema.columns
WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
RULES = """
SELECT
    conname AS name,
    pg_get_constraintdef(oid) AS what,
    conrelid::regclass::text AS of_table,
    conrelid AS relation,
    conkey AS numbers
FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND contype <> 'n'  -- columns say that
UNION
SELECT relname, pg_get_indexdef(indexrelid), indrelid::regclass::text, indrelid, indkey::smallint[]
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = 'public'::regnamespace AND indisunique
"""


@dataclass(frozen=True)
class Tables:
    """Columns and rules, by name: what each is; and of a rule the columns that it is about."""

    columns: dict[str, str]
    rules: dict[str, tuple[str, frozenset[str]]]

    @classmethod
    async def of(cls, connection: Any) -> "Tables":
        rules = await connection.fetch(
            f"""
            SELECT name, what, array_agg(of_table || '.' || attname) FILTER (WHERE attname IS NOT NULL) AS columns
            FROM ({RULES}) AS found
            LEFT JOIN pg_attribute ON attrelid = relation AND attnum = ANY (numbers)
            GROUP BY name, what
            """
        )
        return cls(
            {row["name"]: row["what"] for row in await connection.fetch(COLUMNS)},
            {row["name"]: (row["what"], frozenset(row["columns"] or ())) for row in rules},
        )

    def tightened(self, after: "Tables") -> set[str]:
        """The objects of which code that was written for these can no longer do what it did."""
        known = {name.partition(".")[0] for name in self.columns}
        found = {name for name, column in self.columns.items() if after.columns.get(name) != column}
        for name in after.columns.keys() - self.columns.keys():
            _, may_be_left_out, _ = json.loads(after.columns[name])
            if name.partition(".")[0] in known and not may_be_left_out:
                found.add(name)
        # Code may rely on a rule that goes (ON CONFLICT does on what is unique), and break one that comes or changes.
        found |= {name for name, rule in self.rules.items() if after.rules.get(name) != rule}
        for name in after.rules.keys() - self.rules.keys():
            if after.rules[name][1] & self.columns.keys():
                found.add(name)
        return found


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


async def test_no_revision_takes_from_the_code_of_the_release_before_what_it_uses(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    await migrate(settings, "upgrade", RELEASED)
    revisions = [number for number in NUMBERS if number > RELEASED]
    assert revisions
    tightened = set()
    connection = await asyncpg.connect(empty_url)
    try:
        before = await Tables.of(connection)
        for revision in revisions:
            await migrate(settings, "upgrade", revision)
            after = await Tables.of(connection)
            tightened |= {f"{revision} {name}" for name in before.tightened(after)}
            before = after
    finally:
        await connection.close()
    assert tightened == REVIEWED.keys(), (
        "A revision changes what the code of the release before uses, which runs beside it. Expand first, and contract "
        "in a later release; or say in REVIEWED why that code does not mind."
    )


TAKES = {
    "ALTER TABLE tasks DROP COLUMN end_user": "tasks.end_user",
    "ALTER TABLE tasks RENAME COLUMN end_user TO person": "tasks.end_user",
    "ALTER TABLE tasks ALTER COLUMN attempt TYPE bigint": "tasks.attempt",
    "ALTER TABLE sessions ALTER COLUMN title SET NOT NULL": "sessions.title",
    "ALTER TABLE agent_tools ADD COLUMN tenant text NOT NULL": "agent_tools.tenant",
    "ALTER TABLE tasks ADD CONSTRAINT few CHECK (attempt < 9)": "few",
    "CREATE UNIQUE INDEX once ON agents (name)": "once",
    "DROP INDEX tasks_idempotency_key": "tasks_idempotency_key",
    "DROP TABLE checkpoint_writes": "checkpoint_writes.data",
}
ADDS = (
    "ALTER TABLE agents ADD COLUMN tenant text NOT NULL DEFAULT ''",
    "ALTER TABLE agents ADD COLUMN origin uuid REFERENCES agents (id)",
    "CREATE TABLE more (id uuid PRIMARY KEY, agent_id uuid NOT NULL REFERENCES agents (id))",
    "CREATE INDEX agents_tenant ON agents (tenant)",
)


async def test_what_takes_something_away_is_noticed_and_what_only_adds_is_not(empty_url: str) -> None:
    await migrate(StorageSettings(database_url=empty_url))
    connection = await asyncpg.connect(empty_url)
    try:
        before = await Tables.of(connection)
        for statement, name in TAKES.items():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(statement)
            assert name in before.tightened(await Tables.of(connection)), statement
            await transaction.rollback()
        for statement in ADDS:
            await connection.execute(statement)
        assert before.tightened(await Tables.of(connection)) == set()
    finally:
        await connection.close()


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


async def test_what_waits_in_a_queue_of_its_own_is_not_forgotten_by_the_revision_before(empty_url: str) -> None:
    settings = StorageSettings(database_url=empty_url)
    await migrate(settings)
    agent_id, task_id, now = new_id(), new_id(), datetime.now(UTC)
    agent = (
        "INSERT INTO agents (id, name, description, model_name, config, queue)"
        " VALUES ($1, 'a', '', 'm', '{\"queue\": \"long\"}', 'long')"
    )
    await query(empty_url, agent, agent_id)
    await query(empty_url, TASK, task_id, agent_id, "pending", now, now, None, None)
    await query(empty_url, "UPDATE tasks SET queue = 'long' WHERE id = $1", task_id)
    await migrate(settings, "downgrade", "0009")
    (row,) = await query(
        empty_url,
        "SELECT tasks.queue AS of_task, agents.queue AS of_agent FROM tasks JOIN agents ON agents.id = agent_id",
    )
    assert (row["of_task"], row["of_agent"]) == ("runs", "runs")


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
        "UNIQUE INDEX tasks_idempotency_key ON public.tasks USING btree (owner, idempotency_key)",
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
