"""How a worker claims: few at once, with an end where doorbells wait, and never for one doorbell too few."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from agent_service.bell import Bell, Doorbell
from agent_service.served_queue import CLAIMS_AT_ONCE, ServedQueue
from agent_service.storage import StoredTasks
from agent_service.tasks import Claim, Wanted
from hearth_runtime.errors import Unavailable
from hearth_runtime.redis_streams import tasks_stream
from redis.asyncio import Redis
from system.doorbells import rung
from system.waiting import eventually

QUEUE = "claims"


class GatedTasks(StoredTasks):
    """The real ones, whose claims wait at a gate."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.asked = 0
        self.under_way = 0
        self.most_at_once = 0
        self.away = False
        self.gate = asyncio.Event()

    async def claim(self, wanted: Wanted) -> Claim:
        self.asked += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.gate.wait()
            if self.away:
                raise Unavailable("The storage service does not answer.")
            return await super().claim(wanted)
        finally:
            self.under_way -= 1


class Runs:
    """What runs, until it may end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()

    async def run(self, claim: Claim) -> None:
        self.begun.append(claim.task.id)
        await self.may_end.wait()


@pytest.fixture
def tasks(storage: Any) -> GatedTasks:
    return GatedTasks(storage.channel)


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    started = Runs()
    yield started
    started.may_end.set()


@pytest.fixture
async def queue(storage: Any, bell: Bell, tasks: GatedTasks, runs: Runs) -> ServedQueue:
    await storage.empty_queue()
    wanted = Wanted(worker_id="w", lease=timedelta(minutes=1), queue=QUEUE)
    return ServedQueue(wanted, places=4, store=tasks, bell=bell, run=runs.run)


async def new_tasks(storage: Any, count: int) -> list[Doorbell]:
    """Tasks that wait, each by its doorbell."""
    agent = await storage.new_agent(config={"queue": QUEUE})
    return [Doorbell(task_id=str(await storage.new_task(agent_id=agent))) for _ in range(count)]


async def begun(runs: Runs, count: int) -> None:
    async def probe() -> bool:
        return len(runs.begun) == count

    await eventually(probe, what=f"{count} runs")


async def answered(tasks: GatedTasks, count: int) -> None:
    async def probe() -> bool:
        return (tasks.asked, tasks.under_way) == (count, 0)

    await eventually(probe, what=f"the answers to {count} claims")


async def test_doorbells_wait_for_each_others_claims(
    storage: Any, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    doorbells = await new_tasks(storage, 3)
    for doorbell in doorbells:
        await queue.hear(doorbell)
    tasks.gate.set()
    await begun(runs, 3)
    assert set(runs.begun) == {doorbell.task_id for doorbell in doorbells}
    assert (tasks.asked, tasks.most_at_once) == (3, CLAIMS_AT_ONCE)
    await answered(tasks, 3)
    (late,) = await new_tasks(storage, 1)
    full = asyncio.create_task(queue.hear(late))
    await begun(runs, 4)
    full.cancel()


async def test_an_end_claims_where_doorbells_wait_or_all_places_are_taken(
    storage: Any, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    doorbells = await new_tasks(storage, 4)
    assert queue.next_wanted() is None
    for doorbell in doorbells[:3]:
        await queue.hear(doorbell)
    await asyncio.sleep(0)  # two claims are under way, the third waits
    wanted = queue.next_wanted()
    assert wanted is not None
    assert wanted.queue == QUEUE
    tasks.gate.set()
    await begun(runs, 3)
    assert queue.next_wanted() is None
    full = asyncio.create_task(queue.hear(doorbells[3]))
    await begun(runs, 4)
    assert queue.next_wanted() is not None
    assert not full.done()
    runs.may_end.set()
    await asyncio.wait_for(full, 5)
    assert queue.next_wanted() is None


async def test_what_was_claimed_with_an_end_takes_a_place(
    storage: Any, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    doorbells = await new_tasks(storage, 4)
    tasks.gate.set()
    for doorbell in doorbells[:3]:
        await queue.hear(doorbell)
    await begun(runs, 3)
    assert queue.next_wanted() is None
    queue.run_next(await tasks.claim(Wanted(worker_id="w", lease=timedelta(minutes=1), queue=QUEUE)))
    await begun(runs, 4)
    assert queue.next_wanted() is not None


async def test_a_look_in_vain_is_made_for_all_that_wait(
    storage: Any, bell: Bell, redis: Redis, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    for number in range(3):
        await queue.hear(Doorbell(task_id=f"claimed with an end {number}"))
    await bell.ring("another", queue=QUEUE)
    tasks.gate.set()
    await answered(tasks, 2 * CLAIMS_AT_ONCE)

    async def forgotten() -> bool:
        return await redis.xlen(tasks_stream(QUEUE)) == 0

    await eventually(forgotten, what="an empty stream of doorbells")
    # All places are free again.
    doorbells = await new_tasks(storage, 3)
    for doorbell in doorbells:
        await asyncio.wait_for(queue.hear(doorbell), 5)
    await begun(runs, 3)


async def test_what_rings_after_a_look_is_answered_by_itself(
    storage: Any, queue: ServedQueue, tasks: GatedTasks, runs: Runs, monkeypatch: pytest.MonkeyPatch, bell: Bell
) -> None:
    look = tasks.claim

    async def claim(wanted: Wanted) -> Claim:
        """A task comes between the second look and its answer."""
        try:
            return await look(wanted)
        finally:
            if tasks.asked == 2:  # the second look of the first doorbell
                await queue.hear((await new_tasks(storage, 1))[0])

    monkeypatch.setattr(tasks, "claim", claim)
    tasks.gate.set()
    await queue.hear(Doorbell(task_id="claimed with an end"))
    await begun(runs, 1)


async def test_while_storage_is_away_no_doorbell_waits_for_another_ones_failure(
    storage: Any, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    doorbells = await new_tasks(storage, 3)
    for doorbell in doorbells:
        await queue.hear(doorbell)
    tasks.away = True
    tasks.gate.set()
    await answered(tasks, CLAIMS_AT_ONCE)
    tasks.away = False
    for doorbell in doorbells:  # the dispatcher rings again
        await asyncio.wait_for(queue.hear(doorbell), 5)
    await begun(runs, 3)
    assert tasks.asked == CLAIMS_AT_ONCE + 3


async def test_a_stop_passes_on_the_doorbells_that_wait(
    storage: Any, redis: Redis, queue: ServedQueue, tasks: GatedTasks, runs: Runs
) -> None:
    doorbells = await new_tasks(storage, 3)
    for doorbell in doorbells:
        await queue.hear(doorbell)
    await asyncio.sleep(0)
    stopping = asyncio.create_task(queue.stop())

    async def passed_on() -> bool:
        return await rung(redis, QUEUE) == [doorbell.task_id for doorbell in doorbells[CLAIMS_AT_ONCE:]]

    await eventually(passed_on, what="the doorbells that wait")
    # The claims that were asked for before bring their tasks, which are handed over.
    tasks.gate.set()
    await begun(runs, CLAIMS_AT_ONCE)
    assert not stopping.done()
    runs.may_end.set()
    await stopping
    assert queue.next_wanted() is None
    await queue.hear(doorbells[0])
    assert len(await rung(redis, QUEUE)) == 2
