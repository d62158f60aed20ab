"""The queue: whose doorbell rings, what becomes of a dead worker's task, and the figures about it."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hearth.agent.v1 import agent_pb2, task_pb2
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.codec import duration, timestamp
from hearth_runtime.errors import InvalidArgument, QueueFull
from system.waiting import eventually

Status = task_pb2.Task


async def take(storage: Any, *, limit: int = 100, ring_again_after: float = 3600, **fields: Any) -> list[Any]:
    request = task_store_pb2.TakeDueTasksRequest(
        limit=limit, ring_again_after=duration(timedelta(seconds=ring_again_after)), **fields
    )
    return list((await storage.tasks.TakeDueTasks(request)).due_tasks)


async def taken_ids(storage: Any, **fields: Any) -> set[str]:
    return {due.task.id for due in await take(storage, **fields)}


async def release(storage: Any, task_id: str, attempt: int, *, delay: float = 0) -> None:
    await storage.tasks.ReleaseTask(
        task_store_pb2.ReleaseTaskRequest(
            id=task_id, attempt=attempt, is_retry=True, delay=duration(timedelta(seconds=delay))
        )
    )


async def lose(storage: Any, task_id: str) -> None:
    """Claims the task, and lets the lease run out."""
    await storage.claim(task_id)
    await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 second' WHERE id = $1", task_id)


@pytest.fixture(autouse=True)
async def _empty_queue(storage: Any) -> None:
    # Not TRUNCATE: whatever the tests before left going on would lock the same tables in another order.
    await storage.sql("DELETE FROM tasks")


async def test_a_doorbell_that_just_rang_is_left_alone(storage: Any) -> None:
    task_id = await storage.new_task(traceparent="00-ab-cd-01")
    assert await take(storage) == []
    (due,) = await take(storage, ring_again_after=0)
    assert (due.task.id, due.task.status, due.traceparent) == (task_id, Status.STATUS_PENDING, "00-ab-cd-01")
    # It counts as rung now.
    assert await take(storage) == []


async def test_a_doorbell_that_no_worker_can_have_heard_is_not_rung_again(storage: Any) -> None:
    task_id = await storage.new_task()
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert await take(storage, ring_again_after=0, delivered_before=timestamp(now - hour)) == []
    assert await taken_ids(storage, ring_again_after=0, delivered_before=timestamp(now + hour)) == {task_id}


async def test_a_backoff_ends_in_a_doorbell(storage: Any) -> None:
    waiting, due = await storage.new_task(), await storage.new_task()
    for task_id, delay in ((waiting, 60), (due, 0)):
        await storage.claim(task_id)
        await release(storage, task_id, 1, delay=delay)
    # Never rung for this wait, so that what was delivered does not matter.
    assert await taken_ids(storage, delivered_before=timestamp(datetime(2000, 1, 1, tzinfo=UTC))) == {due}
    assert await take(storage) == []


async def test_a_finished_or_running_task_is_not_due(storage: Any) -> None:
    await storage.claim(await storage.new_task())
    await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=await storage.new_task()))
    assert await take(storage, ring_again_after=0) == []


async def test_a_lost_task_goes_back_to_the_queue_and_counts_as_a_retry(storage: Any) -> None:
    task_id = await storage.new_task()
    await lose(storage, task_id)
    (due,) = await take(storage)
    assert (due.task.id, due.task.status, due.task.retry_count) == (task_id, Status.STATUS_PENDING, 1)
    assert due.task.error_code == "worker_lost"
    assert "stopped answering" in due.task.error_message
    (attempt,) = await storage.sql("SELECT * FROM task_attempts WHERE task_id = $1", task_id)
    assert (attempt["outcome"], attempt["error_code"]) == ("worker_lost", "worker_lost")
    assert attempt["ended_at"] is not None
    assert await take(storage) == []
    # The worker that was thought dead is fenced off, before and after the next one.
    assert await storage.extend((task_id, 1)) == {}
    assert (await storage.claim(task_id)).task.attempt == 2
    assert await storage.extend((task_id, 1), (task_id, 2)) == {(task_id, 2): False}


@pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (None, 4)])
async def test_a_task_that_loses_every_worker_fails(storage: Any, max_retries: int | None, attempts: int) -> None:
    config = agent_pb2.AgentConfig(max_retries=max_retries)
    task_id = await storage.new_task(agent_id=await storage.new_agent(config=config))
    for attempt in range(1, attempts + 1):
        await lose(storage, task_id)
        (due,) = await take(storage)
        assert due.task.attempt == attempt
    assert (due.task.status, due.task.retry_count) == (Status.STATUS_FAILED, attempts - 1)
    assert due.task.error_code == "worker_lost"
    assert due.task.HasField("completed_at")
    assert len(await storage.sql("SELECT FROM task_attempts WHERE outcome = 'worker_lost'")) == attempts


async def test_a_lost_task_that_was_to_be_cancelled_is(storage: Any) -> None:
    task_id = await storage.new_task()
    await lose(storage, task_id)
    await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))
    (due,) = await take(storage)
    assert (due.task.status, due.task.retry_count) == (Status.STATUS_CANCELLED, 0)
    assert not due.task.HasField("error_code")


async def test_a_lease_that_was_extended_is_not_lost(storage: Any) -> None:
    task_id = await storage.new_task()
    await lose(storage, task_id)
    await storage.extend((task_id, 1))
    assert await take(storage) == []


async def test_no_task_is_given_to_two_callers(storage: Any) -> None:
    agent_id = await storage.new_agent()
    ids = await asyncio.gather(*(storage.new_task(agent_id=agent_id) for _ in range(60)))
    for task_id in ids[:20]:
        await lose(storage, task_id)
    for task_id in ids[20:40]:
        await storage.claim(task_id)
        await release(storage, task_id, 1)
    await storage.sql("UPDATE tasks SET rung_at = rung_at - interval '2 hours'")
    takes = await asyncio.gather(*(take(storage, limit=15) for _ in range(8)))
    taken = [due.task.id for part in takes for due in part]
    assert len(taken) == len(set(taken))
    # A caller may pass over what another one holds at that moment; later calls get it.
    while rest := await take(storage, limit=15):
        taken += [due.task.id for due in rest]
    assert sorted(taken) == sorted(ids)


async def test_the_limit_holds_and_the_oldest_come_first(storage: Any) -> None:
    agent_id = await storage.new_agent()
    lost = await storage.new_task(agent_id=agent_id)
    await lose(storage, lost)
    rung = [await storage.new_task(agent_id=agent_id) for _ in range(5)]
    assert await taken_ids(storage, limit=3, ring_again_after=0) == {lost, *rung[:2]}
    with pytest.raises(InvalidArgument, match="limit"):
        await take(storage, limit=0)


async def test_a_sweep_of_large_tasks_leaves_their_input_out(storage: Any) -> None:
    large = '{"prompt":"' + "x" * (1024 * 1024) + '"}'
    agent_id = await storage.new_agent()
    for _ in range(40):
        await storage.new_task(agent_id=agent_id, input=large)
    due = await take(storage, ring_again_after=0)
    assert len(due) == 40
    assert {item.task.input for item in due} == {"{}"}


async def test_the_figures_of_the_queue(storage: Any) -> None:
    stats = await storage.tasks.GetQueueStats(task_store_pb2.GetQueueStatsRequest())
    assert (stats.pending, stats.running, stats.oldest_pending.ToTimedelta()) == (0, 0, timedelta())
    old = await storage.new_task()
    await storage.claim(await storage.new_task())
    await storage.sql("UPDATE tasks SET next_attempt_at = now() - interval '90 seconds' WHERE id = $1", old)
    waiting = await storage.new_task()
    await storage.sql("UPDATE tasks SET next_attempt_at = now() + interval '90 seconds' WHERE id = $1", waiting)
    stats = await storage.tasks.GetQueueStats(task_store_pb2.GetQueueStatsRequest())
    assert (stats.pending, stats.running) == (2, 1)
    assert 90 <= stats.oldest_pending.ToTimedelta().total_seconds() < 100


async def test_the_metrics_and_the_dependency_show_it(storage: Any) -> None:
    runtime = runtime_service_pb2_grpc.RuntimeServiceStub(storage.channel)
    (dependency,) = (await runtime.CheckDependencies(runtime_service_pb2.CheckDependenciesRequest())).dependencies
    assert (dependency.name, dependency.healthy, dependency.required) == ("postgresql", True, True)
    assert "revision 0" in dependency.detail
    await storage.claim(await storage.new_task())
    async with asyncio.timeout(10):
        while True:
            text = (await runtime.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text
            if 'hearth_tasks{status="running"} 1.0' in text and 'hearth_tasks{status="pending"} 0.0' in text:
                break
            await asyncio.sleep(0.05)
    assert 'hearth_queue_oldest_seconds{queue="runs"} 0.0' in text
    assert 'hearth_queue_pending{queue="runs"} 0.0' in text
    long = await storage.new_agent(config=agent_pb2.AgentConfig(queue="long"))
    task_id = await storage.new_task(agent_id=long)
    await storage.sql("UPDATE tasks SET next_attempt_at = now() - interval '1 hour' WHERE id = $1", task_id)

    async def is_shown(sample: str) -> bool:
        return sample in (await runtime.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text

    await eventually(
        lambda: is_shown('hearth_queue_oldest_seconds{queue="long"} 36'), what="the age of what waits there"
    )
    await storage.empty_queue()
    await eventually(lambda: is_shown('hearth_queue_oldest_seconds{queue="long"} 0.0'), what="an empty queue")


async def claimed(storage: Any, count: int) -> list[str]:
    """The agents of the next tasks."""
    return [(await storage.claim_next()).task.agent_id for _ in range(count)]


async def test_agents_take_turns_whoever_has_more_waiting(storage: Any) -> None:
    many, few, late = [await storage.new_agent() for _ in range(3)]
    for _ in range(20):
        await storage.new_task(agent_id=many)
    for _ in range(3):
        await storage.new_task(agent_id=few)
    assert Counter(await claimed(storage, 6)) == {many: 3, few: 3}
    assert await claimed(storage, 4) == [many] * 4
    # Who comes late does not wait for all that is there, and has no more than its turn.
    for _ in range(3):
        await storage.new_task(agent_id=late)
    assert Counter(await claimed(storage, 6)) == {many: 3, late: 3}


async def test_within_an_agent_the_oldest_is_first(storage: Any) -> None:
    agent_id = await storage.new_agent()
    ids = [await storage.new_task(agent_id=agent_id) for _ in range(5)]
    assert [(await storage.claim_next()).task.id for _ in range(5)] == ids


async def test_what_comes_back_is_next(storage: Any) -> None:
    agent_id = await storage.new_agent()
    handed_over, retried, lost = [await storage.new_task(agent_id=agent_id) for _ in range(3)]
    for task_id in (handed_over, retried, lost):
        await storage.claim(task_id)
    for _ in range(5):
        await storage.new_task(agent_id=agent_id)
    await storage.tasks.ReleaseTask(task_store_pb2.ReleaseTaskRequest(id=handed_over, attempt=1))
    await release(storage, retried, 1)
    await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 second' WHERE id = $1", lost)
    assert await taken_ids(storage) == {retried, lost}
    assert {(await storage.claim_next()).task.id for _ in range(3)} == {handed_over, retried, lost}


async def settle(storage: Any, *, limit: int = 100, ended_before: float = 0) -> tuple[list[str], int]:
    """The tasks whose last event is not kept, and how many others were settled."""
    request = task_store_pb2.SettleEndsRequest(limit=limit, ended_before=duration(timedelta(seconds=ended_before)))
    answer = await storage.tasks.SettleEnds(request)
    assert {end.task.output for end in answer.unsettled} <= {""}
    return [end.task.id for end in answer.unsettled], answer.settled_count


async def keep_end(storage: Any, task_id: str, *, late: float = 0) -> None:
    """Has the event that tells of the task's end kept, or that of an earlier end."""
    await storage.sql(
        "INSERT INTO task_logs SELECT gen_random_uuid(), id, agent_id, attempt, 'status', 'info', '', '{}',"
        " completed_at - $2::interval, '', gen_random_uuid()::text, extract(epoch FROM clock_timestamp()) * 1000000, 0"
        " FROM tasks WHERE id = $1",
        task_id,
        timedelta(seconds=late),
    )


async def end_settled(storage: Any, task_id: str) -> bool:
    (state,) = (await storage.tasks.GetTaskStates(task_store_pb2.GetTaskStatesRequest(ids=[task_id]))).states
    return bool(state.end_settled)


async def test_every_end_is_unsettled_until_the_event_that_tells_of_it_is_kept(storage: Any) -> None:
    agent_id = await storage.new_agent(config=agent_pb2.AgentConfig(max_retries=0))
    finished, cancelled, released, lost = [await storage.new_task(agent_id=agent_id) for _ in range(4)]
    await storage.claim(finished)
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=finished, attempt=1, status=Status.STATUS_COMPLETED, output='{"text":"x"}')
    )
    await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=cancelled))
    await storage.claim(released)
    await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=released))
    await storage.tasks.ReleaseTask(task_store_pb2.ReleaseTaskRequest(id=released, attempt=1))
    await lose(storage, lost)
    assert not await end_settled(storage, lost)
    await take(storage)

    ends = [finished, cancelled, released, lost]
    assert await settle(storage) == (ends, 0)
    assert await settle(storage, limit=2) == (ends[:2], 0)
    assert await settle(storage, ended_before=60) == ([], 0)
    assert not any([await end_settled(storage, task_id) for task_id in ends])
    for task_id in ends[:3]:
        await keep_end(storage, task_id)
    assert await settle(storage) == ([lost], 3)
    assert await settle(storage) == ([lost], 0)
    assert await end_settled(storage, finished)


async def test_an_end_before_a_retry_by_hand_is_not_the_one_after(storage: Any) -> None:
    task_id = await storage.new_task()
    cancel = task_store_pb2.CancelTaskRequest(id=task_id)
    await storage.tasks.CancelTask(cancel)
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id))
    assert await settle(storage) == ([], 0)
    assert not await end_settled(storage, task_id)
    await storage.tasks.CancelTask(cancel)
    await keep_end(storage, task_id, late=0.001)
    assert await settle(storage) == ([task_id], 0)
    await keep_end(storage, task_id)
    assert await settle(storage) == ([], 1)


async def test_more_than_may_wait_are_refused_and_told_when_to_come_back(new_database: Any, open_storage: Any) -> None:
    async with open_storage(await new_database(), queue_limit=5, queue_limit_per_agent=3) as storage:
        one, other = await storage.new_agent(), await storage.new_agent()
        first = await storage.new_task(agent_id=one, idempotency_key="first")
        for _ in range(2):
            await storage.new_task(agent_id=one)
        with pytest.raises(QueueFull, match="3 tasks of this agent wait already"):
            await storage.new_task(agent_id=one)
        # What was accepted stays so.
        assert await storage.new_task(agent_id=one, idempotency_key="first") == first
        for _ in range(2):
            await storage.new_task(agent_id=other)
        with pytest.raises(QueueFull, match="5 tasks wait already"):
            await storage.new_task(agent_id=other)
        for _ in range(2):
            await storage.claim_next()
        await eventually(lambda: accepted(storage, other), what="room")


async def accepted(storage: Any, agent_id: str) -> bool:
    try:
        await storage.new_task(agent_id=agent_id)
    except QueueFull:
        return False
    return True
