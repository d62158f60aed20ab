"""Tasks that wait: what they ask, who answers, and who comes first. Over gRPC and on real PostgreSQL."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2, task_service_pb2
from hearth.log.v1 import event_pb2
from hearth.storage.v1 import event_store_pb2, request_store_pb2, request_store_pb2_grpc, task_store_pb2
from hearth_runtime.codec import duration
from hearth_runtime.errors import (
    AgentNotFound,
    AlreadyAnswered,
    AttemptOutdated,
    InvalidArgument,
    NoTaskWaits,
    SubTaskRefused,
    TaskNotFound,
    TaskNotWaiting,
)
from hearth_runtime.identifiers import new_id

Task = task_pb2.Task
Kind = task_pb2.Pending
ANSWER = {"output": "yes"}


def requests(storage: Any) -> Any:
    return request_store_pb2_grpc.RequestStoreServiceStub(storage.channel)


def question(call_id: str = "q", **fields: Any) -> task_pb2.Pending:
    return task_pb2.Pending(**{"id": call_id, "kind": Kind.KIND_QUESTION, "name": "ask", "arguments": "{}", **fields})


async def running(storage: Any, **fields: Any) -> str:
    """A task in its first attempt."""
    task_id = str(await storage.new_task(**fields))
    await storage.claim(task_id)
    return task_id


async def wait(storage: Any, task_id: str, attempt: int = 1, *pendings: task_pb2.Pending) -> Any:
    request = request_store_pb2.WaitTaskRequest(id=task_id, attempt=attempt, pendings=pendings or [question()])
    return await requests(storage).WaitTask(request)


async def resume(storage: Any, task_id: str, **answers: Any) -> Any:
    request = request_store_pb2.ResumeTaskRequest(
        id=task_id,
        answers=[task_service_pb2.RequestAnswer(id=k, answer=json.dumps(v)) for k, v in answers.items()],
    )
    return (await requests(storage).ResumeTask(request)).task


async def answer_of(storage: Any, task_id: str, attempt: int, call_id: str = "q") -> Any:
    request = request_store_pb2.GetAnswerRequest(task_id=task_id, attempt=attempt, call_id=call_id)
    found = await requests(storage).GetAnswer(request)
    return json.loads(found.answer) if found.HasField("answer") else None


async def start(storage: Any, parent_id: str, call_id: str = "c", attempt: int = 1, **fields: Any) -> Any:
    agent_id = fields.pop("agent_id", None) or await storage.new_agent(name="child")
    request = request_store_pb2.StartSubTaskRequest(
        parent_task_id=parent_id, attempt=attempt, call_id=call_id, id=new_id(), agent_id=agent_id,
        input='{"prompt":"part"}', **fields,
    )  # fmt: skip
    return await requests(storage).StartSubTask(request)


def asked_of(child_id: str, call_id: str = "c") -> task_pb2.Pending:
    return task_pb2.Pending(id=call_id, kind=Kind.KIND_TASK, name="child", arguments="{}", task_id=child_id)


async def finish(storage: Any, task_id: str, attempt: int = 1, status: Any = Task.STATUS_COMPLETED) -> Any:
    return await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=task_id, attempt=attempt, status=status, output='{"text":"part done"}')
    )


async def get(storage: Any, task_id: str) -> Any:
    return (await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))).task


async def cancel(storage: Any, task_id: str) -> Any:
    return await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))


async def sweep(storage: Any) -> Sequence[Any]:
    request = task_store_pb2.TakeDueTasksRequest(limit=100, ring_again_after=duration(timedelta(hours=1)), queue="runs")
    return list((await storage.tasks.TakeDueTasks(request)).due_tasks)


async def test_a_task_waits_without_a_worker_and_goes_on_with_its_answer(storage: Any) -> None:
    await storage.empty_queue()
    task_id = await running(storage)
    asked = question(arguments='{"question":"Which?"}', timeout_seconds=60, default='{"output":"any"}')
    waiting = (await wait(storage, task_id, 1, asked)).task
    assert waiting == await get(storage, task_id)
    assert (waiting.status, waiting.retry_count, waiting.attempt) == (Task.STATUS_WAITING, 0, 1)
    (pending,) = waiting.pending
    assert (pending.id, pending.kind, pending.name) == ("q", Kind.KIND_QUESTION, "ask")
    assert json.loads(pending.arguments) == {"question": "Which?"}
    left = pending.expires_at.ToDatetime() - waiting.waiting_since.ToDatetime()
    assert left == timedelta(seconds=60)
    with pytest.raises(NoTaskWaits):
        await storage.claim_next()
    assert task_id not in [due.task.id for due in await sweep(storage)]
    listed = await storage.tasks.ListTasks(
        task_store_pb2.ListTasksRequest(page_size=5, statuses=[Task.STATUS_WAITING], agent_id=waiting.agent_id)
    )
    assert [list(task.pending) for task in listed.tasks] == [[pending]]
    assert (await storage.tasks.GetQueueStats(task_store_pb2.GetQueueStatsRequest())).waiting == 1

    resumed = await resume(storage, task_id, q=ANSWER)
    assert resumed.status == Task.STATUS_PENDING
    assert not resumed.pending
    claim = await storage.claim_next()
    assert (claim.task.id, claim.task.attempt, claim.task.retry_count) == (task_id, 2, 0)
    assert await answer_of(storage, task_id, 2) == ANSWER
    with pytest.raises(AttemptOutdated):
        await answer_of(storage, task_id, 1)
    rows = await storage.sql("SELECT outcome FROM task_attempts WHERE task_id = $1 ORDER BY attempt", task_id)
    assert [row["outcome"] for row in rows] == ["waiting", None]


async def test_the_first_answer_counts_and_the_same_again_is_harmless(storage: Any) -> None:
    task_id = await running(storage)
    await wait(storage, task_id, 1, question("a"), question("b"))
    assert (await resume(storage, task_id, a=ANSWER)).status == Task.STATUS_WAITING
    assert [p.id for p in (await resume(storage, task_id, a=ANSWER)).pending] == ["b"]
    with pytest.raises(AlreadyAnswered, match="first answer counts"):
        await resume(storage, task_id, a={"output": "no"}, b=ANSWER)
    # All of it or none.
    assert [p.id for p in (await get(storage, task_id)).pending] == ["b"]
    assert (await resume(storage, task_id, a=ANSWER, b=ANSWER)).status == Task.STATUS_PENDING
    assert (await resume(storage, task_id, b=ANSWER)).status == Task.STATUS_PENDING
    await storage.claim(task_id)
    await finish(storage, task_id, 2)
    assert (await resume(storage, task_id, a=ANSWER)).status == Task.STATUS_COMPLETED
    with pytest.raises(AlreadyAnswered):
        await resume(storage, task_id, a={"output": "late"})


async def test_answers_that_are_none_are_refused(storage: Any) -> None:
    task_id = await running(storage)
    with pytest.raises(TaskNotWaiting, match="running"):
        await resume(storage, task_id, q=ANSWER)
    with pytest.raises(TaskNotFound):
        await resume(storage, new_id(), q=ANSWER)
    choices = '{"choices":["red","blue"]}'
    approval = question("p", kind=Kind.KIND_APPROVAL)
    call = question("t", kind=Kind.KIND_TOOL_CALL)
    await wait(storage, task_id, 1, question("q", arguments=choices), approval, call)
    for field, answers in {
        "results[0].id": {"other": ANSWER},
        "results[0].output": {"q": {"output": "green"}},
        "results[1].decision": {"q": {"output": "red"}, "p": {"output": "yes"}},
    }.items():
        with pytest.raises(InvalidArgument) as caught:
            await resume(storage, task_id, **answers)
        assert [violation.field for violation in caught.value.fields] == [field]
    with pytest.raises(InvalidArgument, match="p, q, t"):
        await resume(storage, task_id, other=ANSWER)
    with pytest.raises(InvalidArgument, match="tool call"):
        await resume(storage, task_id, t={"decision": "approve"})
    assert len((await get(storage, task_id)).pending) == 3
    done = await resume(storage, task_id, q={"output": "red"}, p={"decision": "reject"}, t={"output": None})
    assert done.status == Task.STATUS_PENDING


async def test_what_was_answered_before_is_not_waited_for(storage: Any) -> None:
    task_id = await running(storage)
    await wait(storage, task_id)
    await resume(storage, task_id, q=ANSWER)
    await storage.claim(task_id)
    # As a step does that was cut off after it had its answer, and asks again.
    again = (await wait(storage, task_id, 2)).task
    assert again.status == Task.STATUS_PENDING
    await storage.claim(task_id)
    assert await answer_of(storage, task_id, 3) == ANSWER


async def test_waiting_again_is_harmless_but_not_for_an_outdated_attempt(storage: Any) -> None:
    task_id = await running(storage)
    first = await wait(storage, task_id)
    assert await wait(storage, task_id) == first
    await resume(storage, task_id, q=ANSWER)
    await storage.claim(task_id)
    with pytest.raises(AttemptOutdated):
        await wait(storage, task_id, 1)
    lost = await running(storage)
    await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", lost)
    await sweep(storage)
    with pytest.raises(AttemptOutdated):
        await wait(storage, lost, 1)


async def test_an_answer_that_does_not_come_is_the_default(storage: Any) -> None:
    with_default, without = await running(storage), await running(storage)
    await wait(storage, with_default, 1, question(timeout_seconds=0.01, default='{"output":"any"}'))
    await wait(storage, without, 1, question(timeout_seconds=0.01), question("open"))
    await asyncio.sleep(0.02)
    due = {due.task.id: due.task.status for due in await sweep(storage)}
    assert due.get(with_default) == Task.STATUS_PENDING
    assert without not in due
    await storage.claim(with_default)
    assert await answer_of(storage, with_default, 2) == {"output": "any"}
    with pytest.raises(AlreadyAnswered):
        await resume(storage, with_default, q=ANSWER)
    await resume(storage, without, open=ANSWER)
    await storage.claim(without)
    assert await answer_of(storage, without, 2) == {"timed_out": True}


async def test_two_answers_at_once_are_one(storage: Any) -> None:
    for _ in range(5):
        task_id = await running(storage)
        await wait(storage, task_id)
        outcomes = await asyncio.gather(
            *(resume(storage, task_id, q={"output": str(n)}) for n in range(4)), return_exceptions=True
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["AlreadyAnswered"] * 3, "Task"]


async def test_a_waiting_task_is_cancelled_at_once_and_can_be_started_again(storage: Any) -> None:
    task_id = await running(storage)
    await wait(storage, task_id, 1, question(timeout_seconds=0.01))
    cancelled = (await cancel(storage, task_id)).task
    assert cancelled.status == Task.STATUS_CANCELLED
    with pytest.raises(TaskNotWaiting):
        await resume(storage, task_id, q=ANSWER)
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id))
    await storage.claim(task_id)
    waiting = (await wait(storage, task_id, 2, question(timeout_seconds=60))).task
    # It is asked anew: the time of the first request does not count.
    assert waiting.pending[0].expires_at.ToDatetime() > waiting.waiting_since.ToDatetime() + timedelta(seconds=50)


async def test_a_cancel_that_came_first_ends_what_would_wait(storage: Any) -> None:
    task_id = await running(storage)
    assert (await cancel(storage, task_id)).task.status == Task.STATUS_RUNNING
    assert (await wait(storage, task_id)).task.status == Task.STATUS_CANCELLED


async def test_cancelling_and_waiting_at_once_ends_the_task(storage: Any) -> None:
    for _ in range(5):
        task_id = await running(storage)
        await asyncio.gather(wait(storage, task_id), cancel(storage, task_id))
        assert (await get(storage, task_id)).status == Task.STATUS_CANCELLED


async def test_a_wait_is_settled_when_its_event_is_kept(storage: Any) -> None:
    task_id = await running(storage)
    await wait(storage, task_id)
    request = task_store_pb2.SettleEndsRequest(limit=100, ended_before=duration(timedelta()))
    unsettled = {end.task.id: end.task for end in (await storage.tasks.SettleEnds(request)).unsettled}
    assert [p.id for p in unsettled[task_id].pending] == ["q"]
    await storage.sql(
        "INSERT INTO task_logs SELECT gen_random_uuid(), id, agent_id, 1, 'status', 'info', '', '{}', waiting_since,"
        " '', '1-1', 1, 1 FROM tasks WHERE id = $1",
        task_id,
    )
    await storage.tasks.SettleEnds(request)
    assert task_id not in [end.task.id for end in (await storage.tasks.SettleEnds(request)).unsettled]


# Sub-tasks.


async def test_a_sub_task_is_made_once_and_its_end_wakes_the_parent(storage: Any) -> None:
    parent_id = await running(storage)
    agent_id = await storage.new_agent(name="painter")
    child = await start(storage, parent_id, agent_id=agent_id)
    again = await start(storage, parent_id, agent_id=agent_id)
    assert (child.created, again.created, again.id, child.agent_name) == (True, False, child.id, "painter")
    shown = await get(storage, child.id)
    assert (shown.parent_task_id, shown.root_task_id, shown.depth) == (parent_id, parent_id, 1)
    assert (shown.status, shown.input) == (Task.STATUS_PENDING, '{"prompt":"part"}')
    waiting = (await wait(storage, parent_id, 1, asked_of(child.id))).task
    assert [(p.kind, p.task_id) for p in waiting.pending] == [(Kind.KIND_TASK, child.id)]
    with pytest.raises(InvalidArgument, match="none of those"):
        await resume(storage, parent_id, c=ANSWER)
    listed = await storage.tasks.ListTasks(task_store_pb2.ListTasksRequest(page_size=5, parent_task_id=parent_id))
    assert [task.id for task in listed.tasks] == [child.id]

    await storage.claim(child.id)
    finished = await finish(storage, child.id)
    assert [(a.task.id, a.task.status) for a in finished.affected] == [(parent_id, Task.STATUS_PENDING)]
    await storage.claim(parent_id)
    answer = await answer_of(storage, parent_id, 2, "c")
    assert (answer["task_id"], answer["status"]) == (child.id, "completed")
    assert answer["output"] == {"text": "part done"}
    assert json.loads((await start(storage, parent_id, attempt=2)).answer) == answer


async def test_a_sub_task_that_ends_before_its_parent_waits_is_not_waited_for(storage: Any) -> None:
    parent_id = await running(storage)
    child = await start(storage, parent_id)
    await storage.claim(child.id)
    assert not (await finish(storage, child.id, status=Task.STATUS_FAILED)).affected
    assert (await wait(storage, parent_id, 1, asked_of(child.id))).task.status == Task.STATUS_PENDING


async def test_sub_tasks_that_end_at_once_wake_the_parent_once(storage: Any) -> None:
    for _ in range(5):
        parent_id = await running(storage)
        children = [await start(storage, parent_id, f"c{n}") for n in range(4)]
        for child in children:
            await storage.claim(child.id)
        ends = [finish(storage, child.id) for child in children]
        pendings = [asked_of(child.id, f"c{n}") for n, child in enumerate(children)]
        answers = await asyncio.gather(*ends, wait(storage, parent_id, 1, *pendings))
        assert (await get(storage, parent_id)).status == Task.STATUS_PENDING
        woken = [a.task.id for answer in answers for a in answer.affected]
        at_once = answers[-1].task.status == Task.STATUS_PENDING
        assert woken.count(parent_id) + at_once == 1


async def tree(storage: Any) -> tuple[str, str, str, str]:
    """A task that waits, a sub-task that waits, one of that which runs, and one which is queued."""
    top = await running(storage)
    middle = (await start(storage, top)).id
    await wait(storage, top, 1, asked_of(middle))
    await storage.claim(middle)
    runs = (await start(storage, middle, "runs")).id
    queued = (await start(storage, middle, "queued")).id
    await wait(storage, middle, 1, asked_of(runs, "runs"), asked_of(queued, "queued"))
    await storage.claim(runs)
    return top, middle, runs, queued


async def test_a_cancel_goes_down_the_tree(storage: Any) -> None:
    top, middle, runs, queued = await tree(storage)
    change = await cancel(storage, top)
    assert change.task.status == Task.STATUS_CANCELLED
    affected = {a.task.id: (a.task.status, a.task.cancel_requested) for a in change.affected}
    assert affected == {
        middle: (Task.STATUS_CANCELLED, True),
        runs: (Task.STATUS_RUNNING, True),
        queued: (Task.STATUS_CANCELLED, True),
    }
    await finish(storage, runs, status=Task.STATUS_CANCELLED)
    assert not await sweep(storage)


async def test_a_cancelled_sub_task_is_an_answer(storage: Any) -> None:
    top, middle, runs, queued = await tree(storage)
    change = await cancel(storage, middle)
    assert {a.task.id: a.task.status for a in change.affected} == {
        runs: Task.STATUS_RUNNING, queued: Task.STATUS_CANCELLED, top: Task.STATUS_PENDING
    }  # fmt: skip
    await storage.claim(top)
    assert (await answer_of(storage, top, 2, "c"))["status"] == "cancelled"


async def test_no_sub_task_outlives_its_parent(storage: Any) -> None:
    parent_id = await running(storage)
    child = await start(storage, parent_id)
    change = await finish(storage, parent_id, status=Task.STATUS_FAILED)
    assert [(a.task.id, a.task.status) for a in change.affected] == [(child.id, Task.STATUS_CANCELLED)]
    # Started again, the parent asks for another one.
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=parent_id))
    await storage.claim(parent_id)
    other = await start(storage, parent_id, attempt=2)
    assert other.created
    assert other.id != child.id


async def test_what_a_lost_worker_leaves_is_seen_to_by_the_sweep(storage: Any) -> None:
    agent_id = await storage.new_agent(config={"max_retries": 0})
    parent_id = await running(storage)
    child = await start(storage, parent_id, agent_id=agent_id)
    await wait(storage, parent_id, 1, asked_of(child.id))
    await storage.claim(child.id)
    below = await start(storage, child.id)
    await storage.claim(below.id)
    await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", child.id)
    due = {due.task.id: due.task.status for due in await sweep(storage)}
    assert due == {
        child.id: Task.STATUS_FAILED, parent_id: Task.STATUS_PENDING, below.id: Task.STATUS_RUNNING
    }  # fmt: skip
    await storage.claim(parent_id)
    answer = await answer_of(storage, parent_id, 2, "c")
    assert (answer["status"], answer["error_code"]) == ("failed", "worker_lost")


async def used(storage: Any, task_id: str, place: int, prompt_tokens: int) -> None:
    event = event_pb2.Event(
        stream_id=f"7-{place}", id=new_id(), task_id=task_id, agent_id=new_id(), kind=event_pb2.Event.KIND_USAGE,
        level=event_pb2.Event.LEVEL_INFO,
        context=json.dumps({"prompt_tokens": prompt_tokens, "completion_tokens": 1}),
    )  # fmt: skip
    event.timestamp.GetCurrentTime()
    await storage.events.AppendEvents(event_store_pb2.AppendEventsRequest(events=[event]))


@pytest.mark.parametrize("status", [Task.STATUS_COMPLETED, Task.STATUS_FAILED])
async def test_what_a_sub_task_that_did_not_complete_used_is_told(storage: Any, status: Any) -> None:
    parent_id = await running(storage)
    child_id = (await start(storage, parent_id)).id
    await storage.claim(child_id)
    below_id = (await start(storage, child_id)).id
    await used(storage, child_id, 10 + status, 100)
    await used(storage, below_id, 20 + status, 20)
    await used(storage, parent_id, 30 + status, 5)
    await finish(storage, child_id, status=status)
    answer = json.loads((await start(storage, parent_id)).answer)
    usage = {"prompt_tokens": 120, "completion_tokens": 2}
    assert answer.get("usage") == (usage if status == Task.STATUS_FAILED else None)


async def test_trees_are_bounded(storage: Any) -> None:
    parent_id = await running(storage)
    ids = [parent_id]
    for _ in range(3):
        ids.append((await start(storage, ids[-1])).id)
        await storage.claim(ids[-1])
    with pytest.raises(SubTaskRefused, match="3 levels"):
        await start(storage, ids[-1])
    for n in range(15):
        await start(storage, parent_id, f"more{n}")
    with pytest.raises(SubTaskRefused, match="16 sub-tasks"):
        await start(storage, parent_id, "one too many")
    with pytest.raises(AgentNotFound):
        await start(storage, ids[1], "nobody", agent_id=new_id())
    with pytest.raises(AttemptOutdated):
        await start(storage, parent_id, "late", attempt=2)


async def test_what_tasks_wait_for_counts_in_the_bytes_of_a_page(storage: Any) -> None:
    agent_id = await storage.new_agent()
    large = json.dumps({"text": "x" * (3 * 1024 * 1024)})
    ids = []
    for _ in range(5):
        ids.append(await running(storage, agent_id=agent_id))
        await wait(storage, ids[-1], 1, question(arguments=large))
    seen: list[str] = []
    request = task_store_pb2.ListTasksRequest(page_size=500, agent_id=agent_id)
    while True:
        page = await storage.tasks.ListTasks(request)
        assert 1 <= len(page.tasks) <= 3
        assert all(task.pending[0].arguments for task in page.tasks)
        seen += [task.id for task in page.tasks]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == ids[::-1]
