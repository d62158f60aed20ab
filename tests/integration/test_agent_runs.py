"""One attempt of a task against real storage and Redis, with workflows made for the occasion."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from agent_service.bell import Bell, broker_of
from agent_service.inference import Models
from agent_service.publisher import EventPublisher
from agent_service.runs import Interruption, Run
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredTasks
from agent_service.workflow import RunContext
from hearth_runtime.errors import ModelRefused, Unavailable
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind
from redis.asyncio import Redis

OUTPUT: dict[str, Any] = {"text": "done", "data": None, "usage": {}, "model": "m"}

type Work = Callable[[RunContext], Awaitable[dict[str, Any]]]


class Workflow:
    """Does what it was made with."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.started = asyncio.Event()

    async def run(self, context: RunContext) -> dict[str, Any]:
        self.started.set()
        return await self._work(context)


class Bench:
    """Makes tasks, and runs of them."""

    def __init__(
        self, storage: Any, redis: Redis, bell: Bell, publisher: EventPublisher, settings: WorkerSettings
    ) -> None:
        self._bell = bell
        self.storage = storage
        self.redis = redis
        self.stored = StoredTasks(storage.channel)
        self._publisher = publisher
        self._settings = settings

    async def start(self, work: Work, **task: Any) -> tuple[str, Run, Workflow, "asyncio.Task[None]"]:
        task_id = await self.storage.new_task(**task)
        await self.storage.put_first(task_id)
        lease = timedelta(seconds=self._settings.lease_seconds)
        workflow = Workflow(work)
        run = Run(
            await self.stored.claim(worker_id="w", lease=lease),
            worker_id="w",
            store=self.stored,
            models=Models(self.storage.channel),
            workflow=workflow,
            publisher=self._publisher,
            bell=self._bell,
            settings=self._settings,
        )
        running = asyncio.create_task(run.execute())
        async with asyncio.timeout(5):
            await workflow.started.wait()
        return task_id, run, workflow, running

    async def statuses(self, task_id: str) -> list[str]:
        """What the status events said."""
        entries: Any = await self.redis.xrange(EVENTS_STREAM)
        events = [Event.decode(fields[EVENT_FIELD], stream_id="") for _, fields in entries]
        return [e.context["status"] for e in events if e.task_id == task_id and e.kind is EventKind.STATUS]


@asynccontextmanager
async def bench_with(storage: Any, redis: Redis, settings: WorkerSettings) -> AsyncIterator[Bench]:
    publisher = EventPublisher(redis, limit=100)
    draining = asyncio.create_task(publisher.run())
    broker = broker_of(settings)
    await broker.connect()
    yield Bench(storage, redis, Bell(broker, redis), publisher, settings)
    await broker.stop()
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


@pytest.fixture
async def bench(storage: Any, redis: Redis, redis_url: str) -> AsyncIterator[Bench]:
    settings = WorkerSettings(
        redis_url=redis_url, lease_seconds=1, lease_heartbeat_seconds=0.1, retry_base_seconds=0.001
    )
    async with bench_with(storage, redis, settings) as opened:
        yield opened


async def forever(_: RunContext) -> dict[str, Any]:
    await asyncio.Event().wait()
    return OUTPUT


async def ended(running: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(10):
        await running


async def test_a_cancel_that_only_the_row_knows_comes_with_the_heartbeat(bench: Bench) -> None:
    task_id, _, _, running = await bench.start(forever)
    await bench.stored.cancel(task_id)
    await ended(running)
    assert (await bench.stored.get(task_id)).status == "cancelled"
    assert await bench.statuses(task_id) == ["running", "cancelled"]


async def test_a_lease_is_kept_for_as_long_as_a_run_takes(bench: Bench) -> None:
    enough = asyncio.Event()

    async def until_told(_: RunContext) -> dict[str, Any]:
        await enough.wait()
        return OUTPUT

    task_id, _, _, running = await bench.start(until_told)
    deadline = asyncio.get_running_loop().time() + 1.6
    while asyncio.get_running_loop().time() < deadline:
        due = await bench.stored.take_due(limit=100, ring_again_after=timedelta(seconds=9), delivered_before=None)
        assert task_id not in [d.task.id for d in due]
    enough.set()
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt, task.output) == ("completed", 1, OUTPUT)


async def test_an_attempt_that_was_taken_over_is_dropped(bench: Bench) -> None:
    task_id, _, _, running = await bench.start(forever)
    await bench.storage.sql("UPDATE tasks SET attempt = attempt + 1 WHERE id = $1", task_id)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt) == ("running", 2)
    assert await bench.statuses(task_id) == ["running"]


async def test_a_hand_over_puts_the_task_back_at_once(bench: Bench) -> None:
    task_id, run, _, running = await bench.start(forever)
    run.interrupt(Interruption.HAND_OVER)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count) == ("pending", 0)
    claim = await bench.stored.claim(worker_id="next", lease=timedelta(seconds=5))
    assert (claim.task.id, claim.task.attempt) == (task_id, 2)


async def test_what_may_pass_is_retried_and_what_may_not_fails(bench: Bench) -> None:
    async def unavailable(_: RunContext) -> dict[str, Any]:
        raise Unavailable("Come back later.")

    async def refused(_: RunContext) -> dict[str, Any]:
        raise ModelRefused("Too long.")

    task_id, _, _, running = await bench.start(unavailable)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count, task.error_code) == ("pending", 1, "unavailable")
    task_id, _, _, running = await bench.start(refused)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code, task.error_message) == ("failed", "model_refused", "Too long.")
    assert await bench.statuses(task_id) == ["running", "failed"]


async def test_a_mistake_in_a_workflow_fails_its_task_and_shows_nothing_of_itself(bench: Bench) -> None:
    async def broken(_: RunContext) -> dict[str, Any]:
        raise KeyError("secret")

    task_id, _, _, running = await bench.start(broken)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code) == ("failed", "internal")
    assert "secret" not in str(task.error_message)
