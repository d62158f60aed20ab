"""Runs that go on after their last finished step, whoever ran it: graphs over real storage and Redis."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest
from agent_service import checkpointer
from agent_service.workflow import GraphWorkflow, RunContext
from agent_service.workflows import Workflows
from hearth_runtime.errors import Unavailable, WorkflowNotFound
from servers.agent_bench import OUTPUT, Bench
from servers.chain import Chain, Hanging, quick


async def lose_worker(bench: Bench, task_id: str, running: "asyncio.Task[Any]") -> None:
    """The worker is gone from one moment to the next, and its lease runs out."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", task_id)
    await bench.stored.take_due(limit=100, ring_again_after=timedelta(hours=1), delivered_before=None)


async def within(seconds: float, awaitable: Awaitable[Any]) -> None:
    async with asyncio.timeout(seconds):
        await awaitable


async def test_a_killed_run_goes_on_with_the_step_that_was_cut(bench: Bench) -> None:
    hanging = Hanging()
    chain = Chain(first=quick, second=hanging, third=quick)
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, chain)
    await within(5, hanging.reached.wait())
    await lose_worker(bench, task_id, running)
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)

    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt, task.output) == ("completed", 2, {**OUTPUT, "text": "first second third"})
    assert chain.begun == ["first", "second", "second", "third"]
    assert await bench.steps(task_id) == [
        (1, "first", "started"),
        (1, "first", "finished"),
        (1, "second", "started"),
        (2, "second", "resumed"),
        (2, "second", "started"),
        (2, "second", "finished"),
        (2, "third", "started"),
        (2, "third", "finished"),
    ]
    attempts, _ = await bench.stored.attempts(task_id, size=10, token="")
    assert [(a.outcome, a.resumed_from) for a in attempts] == [("worker_lost", None), ("completed", "second")]


async def ends_in_the_second_attempt(bench: Bench, chain: Chain) -> str:
    """A task that another attempt takes over at the moment between the last step and FinishTask."""
    task_id: str = await bench.storage.new_task()
    finish, reached = bench.stored.finish, asyncio.Event()

    async def never(*_: Any, **__: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    bench.stored.finish = never  # type: ignore[method-assign]
    _, running = await bench.run_task(task_id, chain)
    await within(5, reached.wait())
    bench.stored.finish = finish  # type: ignore[method-assign]
    await lose_worker(bench, task_id, running)
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)
    assert (await bench.stored.get(task_id)).output == {**OUTPUT, "text": "first"}
    return task_id


async def test_a_last_step_whose_end_is_not_kept_is_made_again_and_was_not_told_of(bench: Bench) -> None:
    chain = Chain(first=quick)
    task_id = await ends_in_the_second_attempt(bench, chain)
    assert chain.begun == ["first", "first"]
    assert await bench.steps(task_id) == [
        (1, "first", "started"),
        (2, "first", "started"),
        (2, "first", "finished"),
    ]


async def test_a_run_whose_steps_are_all_finished_only_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "HELD_BYTES", 0)  # the last state is too large to be held back
    chain = Chain(first=quick)
    task_id = await ends_in_the_second_attempt(bench, chain)
    assert chain.begun == ["first"]
    assert (await bench.steps(task_id))[-1] == (2, "end", "resumed")


async def test_a_retry_goes_on_with_the_step_that_failed(bench: Bench) -> None:
    failures = [Unavailable("Come back later.")]

    async def fails_once(_: RunContext) -> None:
        if failures:
            raise failures.pop()

    chain = Chain(first=quick, second=fails_once)
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, chain)
    await within(10, running)
    assert (await bench.stored.get(task_id)).status == "pending"
    await bench.due_now(task_id)
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)
    assert (await bench.stored.get(task_id)).status == "completed"
    assert chain.begun == ["first", "second", "second"]


async def test_a_hand_over_waits_for_the_step_to_finish(bench: Bench) -> None:
    hanging = Hanging()
    chain = Chain(first=hanging, second=quick)
    task_id = await bench.storage.new_task()
    run, running = await bench.run_task(task_id, chain)
    await within(5, hanging.reached.wait())
    bench.hand_over(run)
    hanging.go.set()
    await within(5, running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.retry_count) == ("pending", 0)
    assert chain.begun == ["first"]
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)
    assert chain.begun == ["first", "second"]
    attempts, _ = await bench.stored.attempts(task_id, size=10, token="")
    assert [(a.outcome, a.resumed_from) for a in attempts] == [("handed_over", None), ("completed", "second")]


async def test_a_hand_over_does_not_wait_for_ever(bench: Bench) -> None:
    hanging = Hanging()
    chain = Chain(first=quick, second=hanging)
    task_id = await bench.storage.new_task()
    run, running = await bench.run_task(task_id, chain)
    await within(5, hanging.reached.wait())
    bench.hand_over(run)
    await within(5, running)
    assert (await bench.stored.get(task_id)).status == "pending"
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)
    assert chain.begun == ["first", "second", "second"]


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_tool_call_that_was_cut_is_repeated_only_where_that_is_safe(bench: Bench, *, repeatable: bool) -> None:
    calls: list[str] = []
    reached, go = asyncio.Event(), asyncio.Event()

    async def send(name: str, *, hangs: bool = False) -> str:
        calls.append(name)
        if hangs and not reached.is_set():
            reached.set()
            await go.wait()
        return f"{name} sent"

    async def mail(context: RunContext) -> None:
        for place, name in enumerate(("one", "two")):
            result = await context.tool_calls.make(
                call_id=f"mail:{place}",
                tool_name="mail",
                arguments={"to": name},
                repeatable=repeatable,
                call=lambda name=name: send(name, hangs=name == "two"),  # type: ignore[misc]
            )
            assert result == f"{name} sent"

    chain = Chain(mail=mail)
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, chain)
    await within(5, reached.wait())
    await lose_worker(bench, task_id, running)
    _, again = await bench.run_task(task_id, chain)
    await within(10, again)
    task = await bench.stored.get(task_id)
    if repeatable:
        assert (task.status, calls) == ("completed", ["one", "two", "two"])
        return
    assert (task.status, task.error_code, calls) == ("failed", "tool_call_unfinished", ["one", "two"])
    assert "repeat_tool_calls" in str(task.error_message)
    await bench.stored.retry(task_id, from_start=False, repeat_tool_calls=True)
    _, third = await bench.run_task(task_id, chain)
    await within(10, third)
    assert (await bench.stored.get(task_id)).status == "completed"
    assert calls == ["one", "two", "two"]


def test_a_workflow_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(WorkflowNotFound, match=r"'nope'.*chat"):
        Workflows().get("nope")
    assert isinstance(Workflows().get(None), GraphWorkflow)
