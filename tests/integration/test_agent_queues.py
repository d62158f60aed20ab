"""Queues for classes of tasks: agents name one, workers serve those that they are told to, and none is forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_service.bell import Bell
from agent_service.dispatcher import Dispatcher, workers_dependency
from agent_service.settings import ApiSettings, WorkerSettings
from agent_service.storage import StoredTasks
from agent_service.worker import serve
from hearth.agent.v1 import agent_pb2
from hearth_runtime.errors import Unavailable
from hearth_runtime.redis_streams import tasks_stream
from hearth_runtime.tasks import TaskStatus
from redis.asyncio import Redis
from system.doorbells import rung
from system.waiting import eventually


@pytest.fixture(autouse=True)
async def nothing_waits(storage: Any) -> None:
    await storage.empty_queue()


@asynccontextmanager
async def a_worker(storage: Any, redis_url: str, tmp_path: Any, *, queues: str, places: int = 4) -> AsyncIterator[None]:
    settings = WorkerSettings(
        listen_address=f"unix:{tmp_path}/w",
        storage_address=storage.settings.listen_address,
        inference_address=f"unix:{tmp_path}/nobody",
        redis_url=redis_url,
        queues=queues,
        worker_concurrency=places,
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


async def test_a_full_worker_claims_its_next_task_as_one_ends_and_forgets_the_doorbells(
    storage: Any, bell: Bell, redis: Redis, redis_url: str, tmp_path: Any
) -> None:
    tasks = [await new_task(storage, "long") for _ in range(5)]
    await bell.ring(tasks[0], queue="long")
    async with a_worker(storage, redis_url, tmp_path, queues="long", places=1):

        async def all_ended() -> bool:
            (row,) = await storage.sql("SELECT count(*) FROM tasks WHERE status = 'failed' AND id = ANY ($1)", tasks)
            return bool(row["count"] == len(tasks))

        # One doorbell for all of them.
        await eventually(all_ended, what="the ends of all tasks")
        attempts = await storage.sql("SELECT attempt FROM tasks WHERE id = ANY ($1)", tasks)
        assert {row["attempt"] for row in attempts} == {1}
        for task_id in tasks[1:]:
            await bell.ring(task_id, queue="long")

        async def forgotten() -> bool:
            return await redis.xlen(tasks_stream("long")) == 0

        await eventually(forgotten, what="an empty stream of doorbells")
        late = await new_task(storage, "long")
        await bell.ring(late, queue="long")
        tasks.append(late)
        await eventually(all_ended, what="the end of the task after them")


async def test_a_full_worker_that_stops_claims_no_more(
    storage: Any, bell: Bell, redis: Redis, redis_url: str, tmp_path: Any
) -> None:
    tasks = [await new_task(storage, "long") for _ in range(400)]
    count = "SELECT count(*) FROM tasks WHERE status = $1 AND id = ANY ($2)"
    await bell.ring(tasks[0], queue="long")
    async with a_worker(storage, redis_url, tmp_path, queues="long", places=1):

        async def some_ended() -> bool:
            (row,) = await storage.sql(count, "failed", tasks)
            return bool(row["count"])

        await eventually(some_ended, what="the first ends")
    (pending,) = await storage.sql(count, "pending", tasks)
    (running,) = await storage.sql(count, "running", tasks)
    assert pending["count"] > 0
    assert running["count"] == 0


async def test_only_what_rang_before_is_forgotten(bell: Bell, redis: Redis) -> None:
    assert await bell.newest("long") is None
    await bell.ring("one", queue="long")
    newest = await bell.newest("long")
    assert newest is not None
    await bell.ring("two", queue="long")
    await bell.forget("long", before=newest.after())
    assert await rung(redis, "long") == ["two"]


async def test_doorbells_that_full_workers_left_go_while_others_wait(
    storage: Any, bell: Bell, redis: Redis, redis_url: str
) -> None:
    stored = StoredTasks(storage.channel)
    dispatcher = Dispatcher(stored, bell, ApiSettings(redis_url=redis_url))
    stream = tasks_stream("long")
    milliseconds = int(time.time() * 1000)
    await redis.xadd(stream, {"left": "long ago"}, id=f"{milliseconds - 120_000}-0")
    await dispatcher.sweep()
    assert await redis.xlen(stream) == 1  # nothing waits, so nobody looks
    task_id = await new_task(storage, "long")
    await bell.ring(task_id, queue="long")
    await dispatcher.sweep()
    assert await rung(redis, "long") == [task_id]


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
