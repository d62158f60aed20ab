"""Runs that wait: over real storage and Redis, with graphs made for the occasion."""

import asyncio
from datetime import timedelta
from typing import Any, TypedDict

from agent_service.outbox import Outbox
from agent_service.publisher import EventPublisher
from agent_service.request_store import RequestAnswer
from agent_service.requests import RunWaits
from agent_service.settings import ApiSettings
from agent_service.task_requests import TaskRequests
from agent_service.tasks import Wanted
from agent_service.workflow import GraphWorkflow, RunContext, step
from hearth.agent.v1 import agent_pb2
from hearth_runtime.events import EventKind
from hearth_runtime.redis_streams import tasks_stream
from hearth_runtime.tasks import Pending, PendingKind, TaskStatus
from langgraph.graph import END, START, StateGraph
from redis.asyncio import Redis
from servers.agent_bench import OUTPUT, Bench, Working
from system.waiting import eventually


class Answers(TypedDict, total=False):
    """What each step was told, and the output."""

    left: str
    right: str
    output: dict[str, Any]


def question(call_id: str, **fields: Any) -> Pending:
    return Pending(id=call_id, kind=PendingKind.QUESTION, name="ask", arguments={}, **fields)


def requests_of(bench: Bench, context: RunContext) -> TaskRequests:
    return TaskRequests(bench.requests, bench.bell, context.task)


class SideBySide(GraphWorkflow):
    """Two steps beside each other, of which `asking` ask, then one that ends; `begun` has every beginning of one."""

    def __init__(self, bench: Bench, *asking: str) -> None:
        self.begun: list[str] = []
        self._bench = bench
        self._asking = asking
        graph = StateGraph(Answers, context_schema=RunContext)
        for name in ("left", "right"):
            graph.add_node(name, step(name, self._ask(name)))
            graph.add_edge(START, name)
        graph.add_node("last", step("last", self._last))
        graph.add_edge(["left", "right"], "last")
        graph.add_edge("last", END)
        super().__init__(graph)

    def _ask(self, name: str) -> Any:
        async def run(_: Answers, context: RunContext) -> dict[str, Any]:
            self.begun.append(name)
            if name not in self._asking:
                # It is still at work when the other has asked.
                await asyncio.sleep(0.05)
                return {name: "unasked"}
            answer = await requests_of(self._bench, context).ask(question(name))
            return {name: answer["output"]}

        return run

    async def _last(self, state: Answers, _: RunContext) -> dict[str, Any]:
        self.begun.append("last")
        return {"output": {**OUTPUT, "text": f"{state['left']} {state['right']}"}}


async def within(seconds: float, running: "asyncio.Task[Any]") -> None:
    async with asyncio.timeout(seconds):
        await running


async def answer(bench: Bench, task_id: str, **answers: str) -> None:
    given = [RequestAnswer(id=name, answer={"output": text}) for name, text in answers.items()]
    await bench.requests.resume(task_id, given)


async def test_steps_that_wait_beside_each_other_ask_for_all_at_once(bench: Bench) -> None:
    workflow = SideBySide(bench, "left", "right")
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, workflow)
    await within(10, running)
    task = await bench.stored.get(task_id)
    assert (task.status, [p.id for p in task.pending]) == (TaskStatus.WAITING, ["left", "right"])
    await answer(bench, task_id, left="yes", right="no")
    _, again = await bench.run_task(task_id, workflow)
    await within(10, again)
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt, task.retry_count) == ("completed", 2, 0)
    assert task.output == {**OUTPUT, "text": "yes no"}
    assert await bench.statuses(task_id) == ["running", "waiting", "running", "completed"]
    attempts, _ = await bench.stored.attempts(task_id, size=10, token="")
    assert [a.outcome for a in attempts] == ["waiting", "completed"]
    assert attempts[1].resumed_from == "left, right"


async def test_a_step_beside_one_that_waits_is_finished_and_not_done_again(bench: Bench) -> None:
    workflow = SideBySide(bench, "left")
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, workflow)
    await within(10, running)
    assert (await bench.stored.get(task_id)).status == TaskStatus.WAITING
    assert not [told for told in await bench.steps(task_id) if told[2] == "finished"]
    await answer(bench, task_id, left="yes")
    _, again = await bench.run_task(task_id, workflow)
    await within(10, again)
    assert sorted(workflow.begun) == ["last", "left", "left", "right"]
    finished = [(attempt, name) for attempt, name, phase in await bench.steps(task_id) if phase == "finished"]
    assert sorted(finished) == [(2, "last"), (2, "left"), (2, "right")]


async def test_a_question_that_nobody_answers_is_answered_by_the_sweep(bench: Bench) -> None:
    async def ask(context: RunContext) -> dict[str, Any]:
        told = await requests_of(bench, context).ask(question("q", timeout_seconds=0.05))
        return {**OUTPUT, "text": str(told)}

    task_id, _, running = await bench.start(ask)
    await within(10, running)

    async def is_swept() -> bool:
        await bench.stored.take_due(queue="runs", limit=100, ring_again_after=timedelta(hours=1), delivered_before=None)
        return (await bench.stored.get(task_id)).status == TaskStatus.PENDING

    await eventually(is_swept, what="the time-out")
    _, again = await bench.run_task(task_id, Working(ask))
    await within(10, again)
    assert (await bench.stored.get(task_id)).output == {**OUTPUT, "text": "{'timed_out': True}"}


async def test_a_sub_task_is_run_by_another_attempt_and_wakes_its_parent(bench: Bench) -> None:
    agent_id = await bench.storage.new_agent(name="helper")

    async def hand_over(context: RunContext) -> dict[str, Any]:
        ended = await requests_of(bench, context).run_agent(
            call_id="c", agent_id=agent_id, task_input={"prompt": "part"}
        )
        return {**OUTPUT, "text": f"helped: {ended['output']['text']}"}

    async def help_out(context: RunContext) -> dict[str, Any]:
        return {**OUTPUT, "text": context.conversation[-1].content}

    task_id, _, running = await bench.start(hand_over)
    await within(10, running)
    (pending,) = (await bench.stored.get(task_id)).pending
    assert (pending.kind, pending.name) == (PendingKind.TASK, "helper")
    assert pending.task_id is not None
    _, child = await bench.run_task(pending.task_id, Working(help_out))
    await within(10, child)
    _, again = await bench.run_task(task_id, Working(hand_over))
    await within(10, again)
    assert (await bench.stored.get(task_id)).output == {**OUTPUT, "text": "helped: part"}


async def test_a_sub_task_rings_in_the_queue_of_its_own_agent(bench: Bench, redis: Redis) -> None:
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(queue="long"))

    async def hand_over(context: RunContext) -> dict[str, Any]:
        return await context.requests.run_agent(call_id="c", agent_id=agent_id, task_input={"prompt": "part"})

    _, _, running = await bench.start(hand_over)
    await within(10, running)
    assert [await redis.xlen(tasks_stream(queue)) for queue in ("long", "runs")] == [1, 0]


async def test_a_sub_task_that_nobody_started_is_not_waited_for(bench: Bench) -> None:
    async def pretend(_: RunContext) -> dict[str, Any]:
        other = await bench.storage.new_task()
        raise RunWaits(Pending(id="c", kind=PendingKind.TASK, name="x", arguments={}, task_id=other))

    task_id, _, running = await bench.start(pretend)
    await within(10, running)
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code) == ("failed", "invalid_argument")


async def test_a_wait_that_its_worker_could_not_tell_of_is_told_from_the_row(bench: Bench, redis: Redis) -> None:
    task_id = await bench.storage.new_task()
    await bench.storage.put_first(task_id)
    claim = await bench.stored.claim(Wanted(worker_id="gone", lease=timedelta(seconds=30)))
    # The worker is killed right after this.
    await bench.requests.wait(claim.task, [question("q")])
    earlier = "UPDATE tasks SET waiting_since = waiting_since - interval '3 s' WHERE id = $1"
    await bench.storage.sql(earlier, task_id)
    publisher = EventPublisher(redis, limit=100)
    draining = asyncio.create_task(publisher.run())
    outbox = Outbox(bench.stored, publisher, ApiSettings())
    for _ in range(2):
        await outbox.drain()
    (told,) = [event for event in await bench.events(task_id) if event.kind is EventKind.STATUS]
    assert told.context["status"] == "waiting"
    assert [pending["id"] for pending in told.context["pending"]] == ["q"]
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)


async def test_cancelling_a_tree_tells_the_worker_of_each_that_runs(bench: Bench) -> None:
    agent_id = await bench.storage.new_agent()
    reached = asyncio.Event()

    async def hand_over(context: RunContext) -> dict[str, Any]:
        return await context.requests.run_agent(call_id="c", agent_id=agent_id, task_input={"prompt": "part"})

    async def forever(_: RunContext) -> dict[str, Any]:
        reached.set()
        await asyncio.Event().wait()
        return OUTPUT

    task_id, _, running = await bench.start(hand_over)
    await within(10, running)
    child_id = (await bench.stored.get(task_id)).pending[0].task_id
    assert child_id is not None
    _, child = await bench.run_task(child_id, Working(forever))
    await reached.wait()
    change = await bench.stored.cancel(task_id)
    assert change.task.status == TaskStatus.CANCELLED
    assert [(a.task.id, a.task.status) for a in change.affected] == [(child_id, TaskStatus.RUNNING)]
    # The heartbeat brings it, also where nobody told.
    await within(10, child)
    assert (await bench.stored.get(child_id)).status == TaskStatus.CANCELLED
    assert await bench.statuses(task_id) == ["running", "waiting"]
