"""One attempt of a task against real storage and Redis, with work made for the occasion."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from agent_service.tasks import Wanted
from agent_service.workflow import RunContext
from hearth_runtime.channels import MAX_MESSAGE_BYTES
from hearth_runtime.errors import ModelRefused, Unavailable
from servers.agent_bench import OUTPUT, Bench


async def forever(_: RunContext) -> dict[str, Any]:
    await asyncio.Event().wait()
    return OUTPUT


async def ended(running: "asyncio.Task[Any]") -> None:
    async with asyncio.timeout(10):
        await running


async def test_a_cancel_that_only_the_row_knows_comes_with_the_heartbeat(bench: Bench) -> None:
    task_id, _, running = await bench.start(forever)
    await bench.stored.cancel(task_id)
    await ended(running)
    assert (await bench.stored.get(task_id)).status == "cancelled"
    assert await bench.statuses(task_id) == ["running", "cancelled"]


async def test_a_lease_is_kept_for_as_long_as_a_run_takes(bench: Bench) -> None:
    enough = asyncio.Event()

    async def until_told(_: RunContext) -> dict[str, Any]:
        await enough.wait()
        return OUTPUT

    task_id, _, running = await bench.start(until_told)
    deadline = asyncio.get_running_loop().time() + 1.6
    while asyncio.get_running_loop().time() < deadline:
        due, _ = await bench.stored.take_due(limit=100, ring_again_after=timedelta(seconds=9), delivered_before=None)
        assert task_id not in [d.task.id for d in due]
    enough.set()
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt, task.output) == ("completed", 1, OUTPUT)


async def test_an_attempt_that_was_taken_over_is_dropped(bench: Bench) -> None:
    task_id, _, running = await bench.start(forever)
    await bench.storage.sql("UPDATE tasks SET attempt = attempt + 1 WHERE id = $1", task_id)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt) == ("running", 2)
    assert await bench.statuses(task_id) == ["running"]


async def test_a_hand_over_puts_the_task_back_at_once(bench: Bench) -> None:
    task_id, run, running = await bench.start(forever)
    bench.hand_over(run)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count) == ("pending", 0)
    claim = await bench.stored.claim(Wanted(worker_id="next", lease=timedelta(seconds=5)))
    assert (claim.task.id, claim.task.attempt) == (task_id, 2)


async def test_what_may_pass_is_retried_and_what_may_not_fails(bench: Bench) -> None:
    async def unavailable(_: RunContext) -> dict[str, Any]:
        raise Unavailable("Come back later.")

    async def refused(_: RunContext) -> dict[str, Any]:
        raise ModelRefused("Too long.")

    task_id, _, running = await bench.start(unavailable)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count, task.error_code) == ("pending", 1, "unavailable")
    task_id, _, running = await bench.start(refused)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code, task.error_message) == ("failed", "model_refused", "Too long.")
    assert await bench.statuses(task_id) == ["running", "failed"]


async def test_a_mistake_in_a_workflow_fails_its_task_and_shows_nothing_of_itself(bench: Bench) -> None:
    async def broken(_: RunContext) -> dict[str, Any]:
        raise KeyError("secret")

    task_id, _, running = await bench.start(broken)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code) == ("failed", "internal")
    assert "secret" not in str(task.error_message)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ({"data": 1}, "no output with a"),
        (None, "no output with a"),
        ({**OUTPUT, "data": object()}, "is no JSON"),
    ],
)
async def test_an_output_that_is_none_fails_its_task_at_once(bench: Bench, output: Any, why: str) -> None:
    async def give(_: RunContext) -> dict[str, Any]:
        given: dict[str, Any] = output
        return given

    task_id, _, running = await bench.start(give)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt) == ("failed", 1)
    assert why in str(task.error_message)


async def test_an_output_that_storage_does_not_take_ends_the_attempt_with_its_error(bench: Bench) -> None:
    async def give(_: RunContext) -> dict[str, Any]:
        return {**OUTPUT, "text": "x" * MAX_MESSAGE_BYTES}

    task_id, _, running = await bench.start(give)
    await ended(running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count, task.error_code) == ("pending", 1, "resource_exhausted")
