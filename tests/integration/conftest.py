"""Real servers for the tests that need them, and storage-service as its callers see it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest
from agent_service.bell import Bell, broker_of
from agent_service.settings import WorkerSettings
from google.rpc import status_pb2
from hearth.agent.v1 import agent_pb2
from hearth.storage.v1 import (
    agent_store_pb2,
    agent_store_pb2_grpc,
    event_store_pb2_grpc,
    memory_store_pb2_grpc,
    session_store_pb2_grpc,
    task_store_pb2,
    task_store_pb2_grpc,
)
from hearth_runtime.channels import open_channel
from hearth_runtime.codec import duration
from hearth_runtime.errors import from_status
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import connect
from redis.asyncio import Redis
from servers.agent_bench import Bench, bench_with
from servers.postgres_server import PostgresServer
from servers.redis_server import RedisServer
from storage_service.main import serve
from storage_service.migrate import migrate
from storage_service.settings import StorageSettings


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server: `get_uri()`."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that the test may stop and start."""
    server = PostgresServer(quick=False)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of an empty database on a real PostgreSQL server with pgvector."""
    return postgres.get_uri()


@pytest.fixture(scope="session")
def new_database(postgres: PostgresServer) -> Callable[[], Awaitable[str]]:
    """Makes a database with Hearth's tables in it, and gives its URL."""

    async def make() -> str:
        name = f"hearth_{new_id().replace('-', '')}"
        connection = await asyncpg.connect(postgres.get_uri())
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        url = postgres.get_uri(name)
        await migrate(StorageSettings(database_url=url))
        return url

    return make


@dataclass(frozen=True, kw_only=True)
class Storage:
    """storage-service over its channel, and the database under it."""

    channel: grpc.aio.Channel
    settings: StorageSettings

    @property
    def agents(self) -> Any:
        return agent_store_pb2_grpc.AgentStoreServiceStub(self.channel)

    @property
    def tasks(self) -> Any:
        return task_store_pb2_grpc.TaskStoreServiceStub(self.channel)

    @property
    def memories(self) -> Any:
        return memory_store_pb2_grpc.MemoryStoreServiceStub(self.channel)

    @property
    def sessions(self) -> Any:
        return session_store_pb2_grpc.SessionStoreServiceStub(self.channel)

    @property
    def events(self) -> Any:
        return event_store_pb2_grpc.EventStoreServiceStub(self.channel)

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Runs a statement beside the service."""
        connection = await asyncpg.connect(self.settings.database_url)
        try:
            return list(await connection.fetch(query, *args))
        finally:
            await connection.close()

    async def until_blocked(self) -> None:
        """Waits until a statement of the service waits for somebody else's transaction."""
        waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while True:
                if await self.sql(waiting):
                    return
                await asyncio.sleep(0.01)

    async def new_agent(self, **fields: Any) -> str:
        """Inserts an agent and gives its id."""
        agent = agent_pb2.Agent(
            **{"id": new_id(), "name": "helper", "model_name": "smollm2:135m", "is_active": True, **fields}
        )
        return str((await self.agents.InsertAgent(agent_store_pb2.InsertAgentRequest(agent=agent))).agent.id)

    async def create(self, request: task_store_pb2.CreateTaskRequest) -> task_store_pb2.CreateTaskResponse:
        """Creates a task. Raises the error that stands in its place."""
        answers = await self.tasks.CreateTasks(task_store_pb2.CreateTasksRequest(tasks=[request]))
        answer: task_store_pb2.CreateTaskResponse = answers.tasks[0]
        if answer.error:
            raise from_status(status_pb2.Status.FromString(answer.error)) or AssertionError("no error of ours")
        return answer

    async def new_task(self, **fields: Any) -> str:
        """Creates a task, of a new agent where none is named, and gives its id."""
        agent_id = fields.pop("agent_id", None) or await self.new_agent()
        request = task_store_pb2.CreateTaskRequest(
            **{"id": new_id(), "agent_id": agent_id, "input": '{"prompt":"hi"}', "request_hash": "h", **fields}
        )
        return str((await self.create(request)).task.id)

    async def claim_next(self, *, lease_seconds: float = 30) -> Any:
        """Claims the task whose turn it is."""
        lease = duration(timedelta(seconds=lease_seconds))
        return await self.tasks.ClaimTask(task_store_pb2.ClaimTaskRequest(worker_id="w", lease=lease))

    async def claim(self, task_id: str, *, lease_seconds: float = 30) -> Any:
        """Claims this task, which waits."""
        await self.put_first(task_id)
        claim = await self.claim_next(lease_seconds=lease_seconds)
        assert claim.task.id == task_id
        return claim

    async def extend(self, *attempts: tuple[str, int]) -> dict[tuple[str, int], bool]:
        """Extends the leases of attempts; tells of those that count whether a cancel was asked for."""
        request = task_store_pb2.ExtendLeasesRequest(lease=duration(timedelta(seconds=30)))
        for task_id, attempt in attempts:
            request.attempts.add(id=task_id, attempt=attempt)
        answer = await self.tasks.ExtendLeases(request)
        return {(lease.id, lease.attempt): lease.cancel_requested for lease in answer.leases}

    async def put_first(self, task_id: str) -> None:
        """Puts this task, which waits, before all others."""
        await self.sql("UPDATE tasks SET turn = -1 WHERE id = $1 AND turn IS NOT NULL", task_id)

    async def empty_queue(self) -> None:
        """Cancels all that waits."""
        await self.sql(
            "UPDATE tasks SET status = 'cancelled', completed_at = now(), next_attempt_at = NULL, rung_at = NULL,"
            " turn = NULL WHERE status = 'pending'"
        )


@asynccontextmanager
async def storage_on(database_url: str, **options: Any) -> AsyncIterator[Storage]:
    """storage-service in this process, on a database that may be away."""
    folder = Path(tempfile.mkdtemp(prefix="h"))
    settings = StorageSettings(
        listen_address=f"unix:{folder}/s",
        database_url=database_url,
        database_call_seconds=3,
        database_metrics_seconds=0.2,
        grace_seconds=2,
        **options,
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(serve(settings, stopping))
    try:
        async with open_channel("storage", settings.listen_address, settings) as channel:
            yield Storage(channel=channel, settings=settings)
    finally:
        stopping.set()
        await running
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def open_storage() -> Callable[..., AbstractAsyncContextManager[Storage]]:
    """Runs storage-service on the database with this URL, with settings that are unlike the tests'."""
    return storage_on


@pytest.fixture(scope="module")
async def storage(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Storage]:
    """storage-service on a fresh database."""
    async with storage_on(await new_database()) as opened:
        yield opened


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that all tests share; none stops it."""
    server = RedisServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a real Redis server."""
    return redis_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of that server, emptied."""
    async with connect(redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def bell(redis: Redis, redis_url: str) -> AsyncIterator[Bell]:
    """Rings on that server."""
    broker = broker_of(WorkerSettings(redis_url=redis_url))
    await broker.connect()
    yield Bell(broker, redis)
    await broker.stop()


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A Redis server of the test's own, which keeps what it holds; not started yet."""
    server = RedisServer(durable=True)
    yield server
    server.remove()


@pytest.fixture
async def bench(storage: Any, redis: Redis, redis_url: str) -> AsyncIterator[Bench]:
    """Attempts of tasks, with short leases and hand-overs."""
    settings = WorkerSettings(
        redis_url=redis_url,
        lease_seconds=1,
        lease_heartbeat_seconds=0.1,
        retry_base_seconds=0.001,
        grace_seconds=2,
    )
    async with bench_with(storage, redis, settings) as opened:
        yield opened
