"""A storage-service that runs while the tables are migrated under it: no call notices."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from hearth.agent.v1 import task_pb2
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.codec import duration
from storage_service.queries import parse_queries
from storage_service.vector_indexes import typed

Status = task_pb2.Task

# What changes the columns of statements that are prepared.
TABLES = ("agents", "sessions", "tasks", "task_attempts", "task_histories", "task_requests")


type Migrate = Callable[[Any], Awaitable[None]]


async def finish(storage: Any, task_id: str, migrate: Migrate) -> bool:
    claim = await storage.claim(task_id)
    await migrate(storage)
    request = task_store_pb2.FinishTaskRequest(
        id=task_id, attempt=claim.task.attempt, status=Status.STATUS_COMPLETED, output='{"text":"x"}'
    )
    return bool((await storage.tasks.FinishTask(request)).task.status == Status.STATUS_COMPLETED)


async def release(storage: Any, task_id: str, migrate: Migrate) -> bool:
    claim = await storage.claim(task_id)
    await migrate(storage)
    request = task_store_pb2.ReleaseTaskRequest(id=task_id, attempt=claim.task.attempt, delay=duration(timedelta()))
    return bool((await storage.tasks.ReleaseTask(request)).task.status == Status.STATUS_PENDING)


async def cancel_and_retry(storage: Any, task_id: str, migrate: Migrate) -> bool:
    await migrate(storage)
    answer = await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))
    assert answer.task.status == Status.STATUS_CANCELLED
    await migrate(storage)
    retried = await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id))
    return bool(retried.task.status == Status.STATUS_PENDING)


async def read(storage: Any, task_id: str, migrate: Migrate) -> bool:
    await migrate(storage)
    answer = await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))
    return bool(answer.task.id == task_id)


async def add_columns(storage: Any) -> None:
    """As a migration does."""
    (row,) = await storage.sql("SELECT count(*) AS number FROM information_schema.columns WHERE table_name = 'tasks'")
    for table in TABLES:
        await storage.sql(f"ALTER TABLE {table} ADD COLUMN added_{row['number']} text NOT NULL DEFAULT ''")


async def change_nothing(_: Any) -> None:
    pass


@pytest.mark.parametrize("call", [finish, release, cancel_and_retry, read])
async def test_calls_go_on_while_columns_are_added(
    storage: Any, call: Callable[[Any, str, Migrate], Awaitable[bool]]
) -> None:
    for migrate in (
        change_nothing,
        change_nothing,
        add_columns,
        add_columns,
    ):  # by the third its statements are prepared
        assert await call(storage, await storage.new_task(), migrate)


async def test_no_statement_minds_a_column_that_it_does_not_know(new_database: Callable[[], Awaitable[str]]) -> None:
    """Code of this release runs on the tables of the next until it is replaced."""
    statements = {
        f"{file.name} {name}": typed(statement, 3)
        for file in files("storage_service").joinpath("sql").iterdir()
        for name, statement in parse_queries(file.read_text()).items()
    }
    assert len(statements) > 100
    connection = await asyncpg.connect(await new_database())
    try:
        assert await unfit(connection, statements) == {}
        for table in await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"):
            await connection.execute(f"ALTER TABLE {table['name']} ADD COLUMN of_the_next_release text")
        assert await unfit(connection, statements) == {}
    finally:
        await connection.close()


async def unfit(connection: Any, statements: dict[str, str]) -> dict[str, str]:
    """The statements that PostgreSQL does not take, with what it says of them."""
    found = {}
    for name, statement in statements.items():
        try:
            await connection.prepare(statement)
        except asyncpg.PostgresError as error:
            found[name] = str(error)
    return found
