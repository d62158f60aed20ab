"""Tasks that ended long ago are deleted with what belongs to them, and nothing that anybody has a use for is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.errors import TaskNotFound
from hearth_runtime.identifiers import new_id
from storage_service.database import Database, open_database
from storage_service.queries import load_queries
from storage_service.retention import LOCK, Forgotten, Retention
from storage_service.settings import StorageSettings
from system.waiting import eventually

KEEP = timedelta(days=30)
AGENT = "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'a', '', 'm', '{}')"
TASK = """
INSERT INTO tasks (
    id, agent_id, status, input, max_retries, request_hash, traceparent, completed_at, next_attempt_at, root_task_id,
    parent_task_id, replay_of_task_id, end_unsettled
) VALUES (
    $1, $2, CASE WHEN $3::float8 IS NULL THEN 'pending' ELSE 'completed' END, '{}', 3, '', '',
    now() - $3::float8 * interval '1 day', CASE WHEN $3::float8 IS NULL THEN now() END, $4, $5, $6, $7
)
"""
EVENT = """
INSERT INTO task_logs (
    id, task_id, agent_id, attempt, kind, level, message, context, timestamp, traceparent, stream_id, stream_ms,
    stream_seq
)
SELECT gen_random_uuid(), $1, $2, 1, 'log', 'info', '', '{}', now(), '', $3 || '-' || n, $3::bigint, n
FROM generate_series(1, $4) AS n
"""


class Rows:
    """Rows as they are written, and what is left of them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.agent_id = new_id()
        self._milliseconds = 0

    async def task(
        self,
        days: float | None,
        *,
        task_id: str | None = None,
        root: str | None = None,
        parent: str | None = None,
        replay_of: str | None = None,
        unsettled: bool = False,
        events: int = 0,
    ) -> str:
        """A task that ended so many days ago, or has not."""
        task_id = task_id or new_id()
        await self.connection.execute(TASK, task_id, self.agent_id, days, root, parent, replay_of, unsettled)
        if events:
            self._milliseconds += 1
            await self.connection.execute(EVENT, task_id, self.agent_id, str(self._milliseconds), events)
        return task_id

    async def left(self) -> set[str]:
        """The tasks that are still there."""
        return {str(row["id"]) for row in await self.connection.fetch("SELECT id FROM tasks")}

    async def count(self, table: str) -> int:
        return int(await self.connection.fetchval(f"SELECT count(*) FROM {table}"))


@pytest.fixture(scope="module")
async def url(new_database: Callable[[], Awaitable[str]]) -> str:
    return await new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(StorageSettings(database_url=url, database_call_seconds=5)) as opened:
        yield opened


@pytest.fixture
async def rows(url: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE tasks, task_logs, collections CASCADE")
    found = Rows(connection)
    await connection.execute(AGENT, found.agent_id)
    yield found
    await connection.close()


async def test_what_ended_long_ago_goes_with_all_that_belongs_to_it(database: Database, rows: Rows) -> None:
    old, new, open_ = await rows.task(31, events=3), await rows.task(29, events=2), await rows.task(None, events=1)
    for task_id in (old, new):
        for statement in (
            "INSERT INTO task_attempts (task_id, attempt, worker_id) VALUES ($1, 1, 'w')",
            "INSERT INTO task_histories (task_id, agent) VALUES ($1, '{}')",
            "INSERT INTO checkpoints (task_id, namespace, id, attempt, type, data, metadata)"
            " VALUES ($1, '', '1', 1, 't', '', '{}')",
            "INSERT INTO checkpoint_writes (task_id, namespace, checkpoint_id, step_id, idx, step_path, channel, type,"
            " data) VALUES ($1, '', '1', 's', 0, '', 'c', 't', '')",
            "INSERT INTO tool_calls (task_id, call_id, attempt, tool_name, arguments, repeatable)"
            " VALUES ($1, 'c', 1, 't', '{}', false)",
            "INSERT INTO task_requests (task_id, call_id, kind, name, arguments)"
            " VALUES ($1, 'c', 'question', 'n', '{}')",
        ):
            await rows.connection.execute(statement, task_id)
    assert await Retention(database, KEEP).forget() == Forgotten(tasks=1, events=3)
    assert await rows.left() == {new, open_}
    assert await rows.count("task_logs") == 3
    for table in (
        "task_attempts",
        "task_histories",
        "checkpoints",
        "checkpoint_writes",
        "tool_calls",
        "task_requests",
    ):
        assert await rows.count(table) == 1, table
    assert await rows.count("agents") > 0
    assert await Retention(database, KEEP).forget() == Forgotten()


async def test_a_tree_goes_as_a_whole(database: Database, rows: Rows) -> None:
    root = new_id()
    await rows.task(31, task_id=root, root=root)
    done = await rows.task(31, root=root, parent=root)
    late = await rows.task(1, root=root, parent=root)
    retention = Retention(database, KEEP)
    assert await retention.forget() == Forgotten()
    assert await rows.left() == {root, done, late}
    await rows.connection.execute("UPDATE tasks SET completed_at = now() - interval '31 days' WHERE id = $1", late)
    assert (await retention.forget()).tasks == 3
    assert await rows.left() == set()


async def test_what_somebody_still_reads_stays(database: Database, rows: Rows) -> None:
    replayed, told = await rows.task(31), await rows.task(31, unsettled=True)
    replay = await rows.task(None, replay_of=replayed)
    reading, collection = await rows.task(31), new_id()
    await rows.connection.execute(
        "INSERT INTO collections (id, name, description, embedding_model, chunk_tokens) VALUES ($1, 'c', '', 'm', 9)",
        collection,
    )
    await rows.connection.execute(
        "INSERT INTO documents (id, collection_id, name, media_type, size_bytes, content_hash, metadata, task_id)"
        " VALUES ($1, $2, 'd', 't', 1, 'h', '{}', $3)",
        new_id(),
        collection,
        reading,
    )
    assert await Retention(database, KEEP).forget() == Forgotten()
    assert await rows.left() == {replayed, told, replay, reading}
    # One that came to nothing may be started again by hand.
    await rows.connection.execute(
        "UPDATE tasks SET status = 'cancelled', completed_at = now() - interval '1 day',"
        " next_attempt_at = NULL WHERE id = $1",
        replay,
    )
    assert await Retention(database, KEEP).forget() == Forgotten()
    await rows.connection.execute("UPDATE tasks SET status = 'completed' WHERE id = $1", replay)
    assert (await Retention(database, KEEP).forget()).tasks == 1
    assert replayed not in await rows.left()


async def test_it_goes_on_in_batches_and_takes_the_events_of_a_long_task_first(database: Database, rows: Rows) -> None:
    for days in (40, 39, 38):
        await rows.task(days, events=4)
    retention = Retention(database, KEEP)
    first = await retention.forget(tasks_at_once=2, events_at_once=5)
    assert (first.tasks, first.events) == (0, 5)
    assert first.since is not None
    assert len(await rows.left()) == 3
    second = await retention.forget(first.since, tasks_at_once=2, events_at_once=5)
    assert (second.tasks, second.events) == (2, 3)
    assert second.since is not None
    assert await retention.forget(second.since, tasks_at_once=2, events_at_once=5) == Forgotten(tasks=1, events=4)
    assert (await rows.left(), await rows.count("task_logs")) == (set(), 0)


async def test_one_process_at_a_time_deletes(database: Database, rows: Rows, url: str) -> None:
    old = await rows.task(31)
    other = await asyncpg.connect(url)
    try:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            assert await Retention(database, KEEP).forget() == Forgotten()
            assert await rows.left() == {old}
        assert (await Retention(database, KEEP).forget()).tasks == 1
    finally:
        await other.close()


async def test_it_is_off_unless_it_is_set(open_storage: Any, url: str, rows: Rows) -> None:
    ids = {await rows.task(400 + number) for number in range(3)}
    async with open_storage(url, retention_sweep_seconds=0.01) as storage:
        await storage.tasks.GetQueueStats(task_store_pb2.GetQueueStatsRequest())
        await asyncio.sleep(0.2)
        assert await rows.left() == ids
    async with open_storage(url, retention_days=400.5, retention_sweep_seconds=0.01) as storage:

        async def is_done() -> bool:
            return len(await rows.left()) == 1

        await eventually(is_done, what="the old tasks' end")
        (kept,) = await rows.left()
        gone = (ids - {kept}).pop()
        runtime = runtime_service_pb2_grpc.RuntimeServiceStub(storage.channel)
        text = (await runtime.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text
        assert "hearth_retention_tasks_total 2.0" in text
        with pytest.raises(TaskNotFound):
            await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=gone))


async def test_no_statement_of_it_reads_a_table_from_end_to_end(rows: Rows) -> None:
    await rows.connection.execute(
        """
        INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, completed_at)
        SELECT gen_random_uuid(), $1, 'completed', '{}', 3, '', '', now() - n * interval '1 minute'
        FROM generate_series(1, 20000) AS n
        """,
        rows.agent_id,
    )
    await rows.connection.execute(EVENT, new_id(), rows.agent_id, "1", 20_000)
    some = [row["id"] for row in await rows.connection.fetch("SELECT id FROM tasks LIMIT 100")]
    await rows.connection.execute("ANALYZE tasks, task_logs")
    statements = load_queries("retention")
    arguments = {
        "find_old_tasks": (timedelta(days=10), None, 100),
        "forget_events": (some, 5000),
        "forget_tasks": (some,),
    }
    for name, values in arguments.items():
        plan = "\n".join(row[0] for row in await rows.connection.fetch(f"EXPLAIN {statements[name]}", *values))
        assert "Seq Scan on tasks" not in plan, plan
        assert "Seq Scan on task_logs" not in plan, plan


async def test_each_foreign_key_to_a_task_has_an_index(rows: Rows) -> None:
    """Without one, deleting a task would read the whole other table."""
    missing = await rows.connection.fetch(
        """
        SELECT conrelid::regclass AS of_table, attname AS of_column
        FROM pg_constraint
        JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE contype = 'f' AND confrelid = 'tasks'::regclass
          AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1])
        """
    )
    assert missing == []
