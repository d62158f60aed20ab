"""PostgreSQL away, back, slow or not Hearth's: every call is answered in time and says what to do."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.deadlines import within
from hearth_runtime.errors import DeadlineExceeded, Unavailable
from hearth_runtime.identifiers import new_id
from storage_service.database import open_database
from storage_service.migrate import MigrationError, migrate
from storage_service.settings import StorageSettings

type OpenStorage = Callable[[str], AbstractAsyncContextManager[Any]]


async def dependency(storage: Any) -> Any:
    runtime = runtime_service_pb2_grpc.RuntimeServiceStub(storage.channel)
    return (await runtime.CheckDependencies(runtime_service_pb2.CheckDependenciesRequest())).dependencies[0]


async def stats(storage: Any) -> Any:
    return await storage.tasks.GetQueueStats(task_store_pb2.GetQueueStatsRequest())


async def until_it_works(storage: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await stats(storage)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_it_serves_with_postgresql_away(open_storage: OpenStorage) -> None:
    async with open_storage("postgresql://nobody@/none?host=/nowhere") as storage:
        health = await health_pb2_grpc.HealthStub(storage.channel).Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest()
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(Unavailable, match="HEARTH_DATABASE_URL") as caught:
            await stats(storage)
        assert caught.value.metadata == {"dependency": "postgresql"}
        answer = await dependency(storage)
        assert (answer.name, answer.healthy) == ("postgresql", False)
        assert "Check that it runs" in answer.detail


async def test_it_goes_on_after_postgresql_was_stopped_in_mid_use(own_postgres: Any, open_storage: OpenStorage) -> None:
    url = own_postgres.get_uri()
    await migrate(StorageSettings(database_url=url))
    async with open_storage(url) as storage:
        agent_id = await storage.new_agent()
        before = [await storage.new_task(agent_id=agent_id) for _ in range(3)]
        failures: list[Unavailable] = []
        accepted: list[str] = []
        stopping = asyncio.Event()

        async def use() -> None:
            while not stopping.is_set():
                try:
                    accepted.append(await storage.new_task(agent_id=agent_id))
                except Unavailable as error:
                    failures.append(error)
                    await asyncio.sleep(0.01)

        users = [asyncio.create_task(use()) for _ in range(4)]
        await asyncio.to_thread(own_postgres.stop)
        with pytest.raises(Unavailable, match="Check that it runs"):
            await stats(storage)
        assert not (await dependency(storage)).healthy
        await asyncio.to_thread(own_postgres.start)
        await until_it_works(storage)
        stopping.set()
        await asyncio.gather(*users)
        assert failures
        assert {error.detail for error in failures} <= {failures[0].detail}
        rows = await storage.sql("SELECT id FROM tasks")
        # What was accepted is there; what was refused may be there too, if only its answer was lost.
        assert {str(row["id"]) for row in rows} >= {*before, *accepted}
        assert (await dependency(storage)).healthy


async def test_a_database_without_tables_names_the_command(postgres_url: str, open_storage: OpenStorage) -> None:
    async with open_storage(postgres_url) as storage:
        with pytest.raises(Unavailable, match=r"storage_service\.migrate"):
            await stats(storage)
        answer = await dependency(storage)
        assert not answer.healthy
        assert "storage_service.migrate" in answer.detail


async def test_a_database_that_is_not_there_or_no_url(postgres: Any, open_storage: OpenStorage) -> None:
    for url in (postgres.get_uri("unknown"), "mysql://localhost/x", "postgresql://localhost:port/x"):
        async with open_storage(url) as storage:
            with pytest.raises(Unavailable, match="Mend HEARTH_DATABASE_URL"):
                await stats(storage)


async def test_a_call_that_must_wait_ends_in_time(storage: Any) -> None:
    task_id = await storage.new_task()
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
            started = time.monotonic()
            calls = [storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id)) for _ in range(25)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            # The pool has ten connections; one after the other they would wait three times.
            assert time.monotonic() - started < 2 * storage.settings.database_call_seconds
            assert {type(result) for result in results} == {Unavailable}
            assert {str(result) for result in results if "in time" not in str(result)} == set()
    finally:
        await connection.close()
    cancelled = await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))
    assert cancelled.task.completed_at.seconds


async def test_a_deadline_of_the_caller_frees_the_connection(storage: Any) -> None:
    task_id = await storage.new_task()
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
            request = task_store_pb2.CancelTaskRequest(id=task_id)
            results = await asyncio.gather(
                *(storage.tasks.CancelTask(request, timeout=0.3) for _ in range(30)), return_exceptions=True
            )
            assert {type(result) for result in results} == {Unavailable}
            # The pool has ten connections; were they still waiting, this would wait too.
            started = time.monotonic()
            await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))
            assert time.monotonic() - started < storage.settings.database_call_seconds - 0.5
    finally:
        await connection.close()


async def test_a_statement_ends_at_the_callers_deadline_and_its_connection_goes_on(postgres_url: str) -> None:
    # One connection for all, and a time of its own that is far off.
    settings = StorageSettings(database_url=postgres_url, database_pool_size=1, database_call_seconds=600)
    sleeping = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    async with asyncio.timeout(60), open_database(settings) as database:
        (before,) = await database.fetch("SELECT pg_backend_pid() AS pid")
        with within(0.5), pytest.raises(Unavailable, match="in time"):
            await database.fetchrow("SELECT pg_sleep(500)")
        (after,) = await database.fetch("SELECT pg_backend_pid() AS pid")
        assert after["pid"] == before["pid"]
        assert await database.fetch(sleeping) == []

        async def half_do() -> None:
            async with database.transaction() as transaction:
                await transaction.fetchrow("CREATE TABLE half_done ()")
                await transaction.fetchrow("SELECT pg_sleep(500)")

        with within(0.5), pytest.raises(Unavailable, match="in time"):
            await half_do()
        (row,) = await database.fetch("SELECT to_regclass('half_done') AS it")
        assert row["it"] is None
        with within(0), pytest.raises(DeadlineExceeded):
            await database.fetchrow("SELECT 1")
        # Waiting for the connection is bounded as well.
        async with database.transaction():
            with within(0.5), pytest.raises(Unavailable, match="in time"):
                await database.fetchrow("SELECT 1")


async def test_a_call_over_grpc_ends_its_statement_in_time_to_say_so(storage: Any) -> None:
    task_id = await storage.new_task()
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", task_id)
            with pytest.raises(Unavailable, match="PostgreSQL did not answer in time"):
                await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id), timeout=2.5)
    finally:
        await connection.close()


async def test_a_migration_says_why_it_cannot_begin(postgres: Any) -> None:
    away = StorageSettings(database_url="postgresql://nobody@/none?host=/nowhere", migrate_wait_seconds=0.5)
    with pytest.raises(MigrationError, match=r"not ready within 0\.5 seconds"):
        await migrate(away)
    with pytest.raises(MigrationError, match="HEARTH_DATABASE_URL"):
        await migrate(StorageSettings(database_url=f"mysql://localhost/{new_id()}"))
