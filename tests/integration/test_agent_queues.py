"""Queues for classes of tasks: agents name one, workers serve those that they are told to, and none is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_service.bell import Bell, broker_of
from agent_service.dispatcher import Dispatcher, workers_dependency
from agent_service.settings import ApiSettings, WorkerSettings
from agent_service.storage import StoredTasks
from agent_service.worker import serve
from hearth.agent.v1 import agent_pb2
from hearth_runtime.errors import Unavailable
from hearth_runtime.redis_streams import tasks_stream
from hearth_runtime.tasks import TaskStatus
from redis.asyncio import Redis
from system.waiting import eventually


@pytest.fixture(autouse=True)
async def nothing_waits(storage: Any) -> None:
    await storage.empty_queue()


@pytest.fixture
async def bell(redis: Redis, redis_url: str) -> AsyncIterator[Bell]:
    broker = broker_of(ApiSettings(redis_url=redis_url))
    await broker.connect()
    yield Bell(broker, redis)
    await broker.stop()


@asynccontextmanager
async def a_worker(storage: Any, redis_url: str, tmp_path: Any, *, queues: str) -> AsyncIterator[None]:
    settings = WorkerSettings(
        listen_address=f"unix:{tmp_path}/w",
        storage_address=storage.settings.listen_address,
        inference_address=f"unix:{tmp_path}/nobody",
        redis_url=redis_url,
        queues=queues,
        grace_seconds=2,
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(serve(settings, stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


async def new_task(storage: Any, queue: str | None) -> str:
    """A task that ends as soon as a worker has it: nobody has its workflow."""
    agent = await storage.new_agent(config=agent_pb2.AgentConfig(queue=queue, workflow="nobody-has-it"))
    return str(await storage.new_task(agent_id=agent))


async def test_a_worker_takes_what_waits_in_its_queues_alone(
    storage: Any, bell: Bell, redis: Redis, redis_url: str, tmp_path: Any
) -> None:
    stored = StoredTasks(storage.channel)
    run, long = await new_task(storage, None), await new_task(storage, "long")
    for task_id, queue in ((run, "runs"), (long, "long")):
        assert (await stored.get(task_id)).queue == queue
        await bell.ring(task_id, queue=queue)
    async with a_worker(storage, redis_url, tmp_path, queues="long"):

        async def ended() -> bool:
            return (await stored.get(long)).status is TaskStatus.FAILED

        await eventually(ended, what="the end of the long task")
        assert await bell.workers() == [{"long"}]
        assert (await stored.get(run)).attempt == 0
        assert not await redis.exists("hearth.tasks.documents")
    assert await bell.workers() == []
    assert await redis.xlen(tasks_stream("runs")) == 1


async def test_what_waits_in_a_queue_that_no_setting_names_any_more_is_rung_for_and_told_of(
    storage: Any, bell: Bell, redis: Redis, redis_url: str
) -> None:
    dispatcher = Dispatcher(StoredTasks(storage.channel), bell, ApiSettings(redis_url=redis_url))
    workers = workers_dependency(bell, dispatcher)
    await bell.announce_worker("one", ["runs", "documents"])
    assert await workers.probe() == "1 running"
    task_id = await new_task(storage, "forgotten")
    await storage.sql("UPDATE tasks SET rung_at = NULL WHERE id = $1", task_id)
    await dispatcher.sweep()
    assert await redis.xlen(tasks_stream("forgotten")) == 1
    with pytest.raises(Unavailable, match=r"No worker serves forgotten: .* HEARTH_QUEUES=forgotten python -m"):
        await workers.probe()
    await bell.announce_worker("two", ["forgotten"])
    assert await workers.probe() == "2 running"


async def test_a_lost_worker_of_any_queue_is_found(storage: Any, bell: Bell, redis: Redis, redis_url: str) -> None:
    stored = StoredTasks(storage.channel)
    dispatcher = Dispatcher(stored, bell, ApiSettings(redis_url=redis_url))
    task_id = await new_task(storage, "forgotten")
    await storage.sql(
        "UPDATE tasks SET status = 'running', attempt = 1, lease_expires_at = now() - interval '1 s',"
        " next_attempt_at = NULL, rung_at = NULL, turn = NULL WHERE id = $1",
        task_id,
    )
    await dispatcher.sweep()
    assert (await stored.get(task_id)).status is TaskStatus.PENDING
    assert await redis.xlen(tasks_stream("forgotten")) == 1


async def test_a_queue_that_is_named_needs_a_worker(bell: Bell, storage: Any, redis_url: str) -> None:
    settings = ApiSettings(redis_url=redis_url, queues="runs,documents,long")
    workers = workers_dependency(bell, Dispatcher(StoredTasks(storage.channel), bell, settings))
    with pytest.raises(Unavailable, match="No worker is running"):
        await workers.probe()
    await bell.announce_worker("one", ["runs", "documents"])
    with pytest.raises(Unavailable, match="No worker serves long"):
        await workers.probe()
