"""A task whose doorbell was not heard is rung for again; one that waits its turn is not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from agent_service.acceptance import Tasks
from agent_service.bell import WORKER_KEYS, WORKERS_GROUP, Bell, broker_of
from agent_service.dispatcher import Dispatcher
from agent_service.publisher import EventPublisher
from agent_service.request_store import StoredRequests
from agent_service.settings import ApiSettings
from agent_service.storage import StoredAgents, StoredTasks
from agent_service.tasks import Wanted
from hearth_runtime.errors import AgentInactive, AttemptOutdated, NoTaskWaits
from hearth_runtime.redis_streams import TASKS_STREAM, connect, ensure_group
from hearth_runtime.tasks import Task, TaskStatus
from redis.asyncio import Redis
from servers.redis_server import RedisServer
from system.waiting import eventually

LEASE = timedelta(seconds=30)


class Api:
    """What the process `api` is wired from, without its server."""

    def __init__(self, channel: Any, redis: Redis, settings: ApiSettings, broker: Any) -> None:
        self.redis = redis
        self.bell = Bell(broker, redis)
        publisher = EventPublisher(redis, limit=100)
        self.stored = StoredTasks(channel)
        self.agents = StoredAgents(channel)
        self.tasks = Tasks(self.stored, StoredRequests(channel), self.bell, publisher)
        self.dispatcher = Dispatcher(self.stored, self.bell, settings)

    async def accept(self, agent_id: str) -> Task:
        task, created = await self.tasks.create(
            agent_id=agent_id, task_input={"prompt": "hi"}, session_id=None, idempotency_key=None
        )
        assert created
        return task

    async def rung(self) -> int:
        """How many doorbells were rung since the last flush."""
        return int(await self.redis.xlen(TASKS_STREAM))

    async def hear(self) -> int:
        """Reads every doorbell, as a worker that then dies."""
        await ensure_group(self.redis, TASKS_STREAM, WORKERS_GROUP)
        read: Any = await self.redis.xreadgroup(WORKERS_GROUP, "deaf", {TASKS_STREAM: ">"}, noack=True)
        return sum(len(entries) for _, entries in read)


@pytest.fixture
async def api(storage: Any, redis: Redis, redis_url: str) -> AsyncIterator[Api]:
    settings = ApiSettings(redis_url=redis_url, ring_again_seconds=0.2)
    broker = broker_of(settings)
    await broker.connect()
    await storage.sql("DELETE FROM tasks")
    yield Api(storage.channel, redis, settings, broker)
    await broker.stop()


async def until_rung(api: Api, count: int) -> None:
    async with asyncio.timeout(10):
        while await api.rung() < count:
            await api.dispatcher.sweep()


async def test_an_accepted_task_is_rung_for_once(api: Api, storage: Any) -> None:
    await api.accept(await storage.new_agent())
    assert await api.rung() == 1
    await api.dispatcher.sweep()
    assert await api.rung() == 1


async def test_what_redis_forgot_is_rung_for_again(api: Api, storage: Any) -> None:
    await api.accept(await storage.new_agent())
    await api.redis.flushall()
    await until_rung(api, 1)
    claim = await api.stored.claim(Wanted(worker_id="w", lease=LEASE))
    assert claim.task.attempt == 1


async def test_a_doorbell_that_a_dead_worker_read_is_rung_again(api: Api, storage: Any) -> None:
    await api.accept(await storage.new_agent())
    assert await api.hear() == 1

    async def heard_again() -> int:
        await api.dispatcher.sweep()
        return await api.hear()

    assert await eventually(heard_again, what="another doorbell") == 1


async def test_a_doorbell_that_waits_its_turn_is_not(api: Api, storage: Any) -> None:
    agent_id = await storage.new_agent()
    await ensure_group(api.redis, TASKS_STREAM, WORKERS_GROUP)
    await api.accept(agent_id)
    await api.redis.xreadgroup(WORKERS_GROUP, "busy", {TASKS_STREAM: ">"}, count=1, noack=True)
    await api.stored.claim(Wanted(worker_id="busy", lease=LEASE))
    for _ in range(3):
        await api.accept(agent_id)
    before = await api.rung()
    deadline = asyncio.get_running_loop().time() + 1
    while asyncio.get_running_loop().time() < deadline:
        await api.dispatcher.sweep()
    assert await api.rung() <= before
    assert await api.hear() == 3


async def test_a_run_is_accepted_while_redis_is_away(storage: Any, own_redis_server: RedisServer) -> None:
    settings = ApiSettings(redis_url=own_redis_server.url, ring_again_seconds=0.2)
    broker = broker_of(settings)
    await broker.connect()
    async with connect(own_redis_server.url) as redis:
        api = Api(storage.channel, redis, settings, broker)
        async with asyncio.timeout(5):
            task = await api.accept(await storage.new_agent())
        assert task.status is TaskStatus.PENDING
        own_redis_server.start()
        await until_rung(api, 1)
    await broker.stop()


async def test_a_lost_lease_is_another_attempt_and_fences_the_first(api: Api, storage: Any) -> None:
    await api.accept(await storage.new_agent())
    lost = await api.stored.claim(Wanted(worker_id="dead", lease=timedelta(milliseconds=50)))
    with pytest.raises(NoTaskWaits):
        await api.stored.claim(Wanted(worker_id="early", lease=LEASE))
    await until_rung(api, 2)
    claim = await api.stored.claim(Wanted(worker_id="next", lease=LEASE))
    assert (claim.task.attempt, claim.task.retry_count) == (2, 1)
    with pytest.raises(AttemptOutdated):
        await api.stored.finish(lost.task, status=TaskStatus.COMPLETED, output={"text": "late"})
    assert await api.stored.extend([lost.task], lease=LEASE) == {}
    await api.stored.finish(claim.task, status=TaskStatus.COMPLETED, output={"text": "right"})
    assert (await api.stored.get(claim.task.id)).output == {"text": "right"}


async def test_a_hand_over_is_no_retry(api: Api, storage: Any) -> None:
    await api.accept(await storage.new_agent())
    claim = await api.stored.claim(Wanted(worker_id="leaving", lease=LEASE))
    released = (await api.stored.release(claim.task, is_retry=False)).task
    assert (released.status, released.retry_count) == (TaskStatus.PENDING, 0)
    again = await api.stored.claim(Wanted(worker_id="next", lease=LEASE))
    assert (again.task.attempt, again.task.retry_count) == (2, 0)


async def test_a_deleted_agent_takes_no_runs(api: Api, storage: Any) -> None:
    agent_id = await storage.new_agent()
    await api.agents.deactivate(agent_id)
    with pytest.raises(AgentInactive):
        await api.accept(agent_id)


async def test_workers_are_counted_while_they_are_heard(api: Api) -> None:
    assert await api.bell.workers() == []
    await api.bell.announce_worker("one", ["runs"])
    await api.bell.announce_worker("two", ["runs", "long"])
    await api.bell.announce_worker("two", ["runs", "long"])
    assert sorted(map(sorted, await api.bell.workers())) == [["long", "runs"], ["runs"]]
    await ensure_group(api.redis, TASKS_STREAM, WORKERS_GROUP)
    await api.bell.dismiss_worker("one", ["runs"])
    assert await api.bell.workers() == [{"runs", "long"}]
    # As a worker of the version before says it.
    await api.redis.set(f"{WORKER_KEYS}old", "")
    assert frozenset(("runs", "documents")) in await api.bell.workers()
