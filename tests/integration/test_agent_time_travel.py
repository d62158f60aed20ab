"""Checkpoints listed, tasks forked and replayed: over real storage and Redis, with models that are written down."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_service.bell import Bell
from agent_service.chat_workflow import ChatWorkflow
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.history_store import StoredHistories
from agent_service.plan_workflow import PlanWorkflow, TeamWorkflow
from agent_service.reflect_workflow import ReflectWorkflow
from agent_service.request_store import RequestAnswer
from agent_service.time_travel import ForkRequest, TaskCheckpoint, TimeTravel
from agent_service.tools_workflow import ToolsWorkflow
from agent_service.workflow import RunContext, Workflow
from fakes.models import Asked, Reply, ScriptedModels
from fakes.tools import FakeTool
from hearth.agent.v1 import agent_pb2
from hearth_runtime.errors import (
    AgentInactive,
    CheckpointNotFound,
    HearthError,
    HistoryExpired,
    InvalidArgument,
    ModelOutputInvalid,
    ModelRefused,
    TaskNotFound,
    TaskNotReplayable,
    Unavailable,
)
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import RUNS, Task, TaskStatus
from hearth_test_workflows import STEPS, AsksWorkflow, StepsWorkflow
from servers.agent_bench import Bench

CITY = {"type": "string"}


class Silent(Bell):
    """Rings for nobody: the tests run their tasks by themselves."""

    def __init__(self) -> None:
        pass

    async def ring(self, task_id: str, *, queue: str = RUNS) -> bool:
        return True


@pytest.fixture
def travel(bench: Bench) -> TimeTravel:
    channel = bench.storage.channel
    return TimeTravel(StoredHistories(channel), StoredCheckpoints(channel), bench.stored, Silent())


def fork_of(task_id: str, **fields: Any) -> ForkRequest:
    given = ForkRequest(
        task_id=task_id, checkpoint_id=None, step=None, state=None, input=None, answers={}, idempotency_key=None
    )
    return replace(given, **fields)


async def ran(bench: Bench, task_id: str, workflow: Workflow) -> Task:
    """The task after an attempt, with its events kept."""
    _, running = await bench.run_task(task_id, workflow)
    await running
    await bench.keep_events(task_id)
    return await bench.stored.get(task_id)


def critic(asked: Asked) -> Reply:
    """Finds only drafts that say `short` good enough."""
    if asked.output_schema is not None:
        return {"problem": "too long", "met": "short" in asked.text.split("Criterion")[0]}
    return "A short answer." if "problems" in asked.text else f"A long answer to {asked.text}"


async def reflected(
    bench: Bench,
    reply: Callable[[Asked], Reply] = critic,
    *,
    models: type[ScriptedModels] = ScriptedModels,
    **config: Any,
) -> Task:
    bench.models = models(reply)
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(criteria=["It is brief."], **config))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Why?"}')
    return await ran(bench, task_id, ReflectWorkflow())


async def replayed_task(bench: Bench, travel: TimeTravel, task: Task, workflow: Workflow) -> Task:
    """A replay with models and tools that answer nothing."""

    def nobody(_: Asked) -> Reply:
        raise AssertionError("a replay asks nobody")

    bench.models, bench.tools = ScriptedModels(nobody), ()
    replayed = await travel.replay(task.id, idempotency_key=None)
    assert replayed.replay_of_task_id == task.id
    return await ran(bench, replayed.id, workflow)


def weather(answer: Any = lambda a: f"sunny in {a['city']}", **options: Any) -> FakeTool:
    return FakeTool("weather", answer, description="The weather in a city", city=CITY, **options)


async def acted(bench: Bench, tool: FakeTool | None = None) -> Task:
    """A run that is led to call a tool, and answers with what that said."""

    def led(asked: Asked) -> Reply:
        if asked.output_schema is not None:
            return {"city": "Paris"}
        return f"It says: {'sunny' if 'sunny' in asked.text else 'rainy'}"

    bench.models, bench.tools = ScriptedModels(led), (tool or weather(),)
    agent_id = await bench.storage.new_agent()
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "The weather in the city of Paris?"}')
    return await ran(bench, task_id, ToolsWorkflow())


async def test_checkpoints_show_what_each_step_left_behind(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    checkpoints, token = await travel.list(task.id, size=100, token="")
    assert token == ""
    assert [(c.finished, c.next) for c in checkpoints] == [
        ((), ("draft",)),
        (("draft",), ("critique",)),
        (("critique",), ("revise",)),
        (("revise",), ("critique",)),
        (("critique",), ("finish",)),
        (("finish",), ()),
    ]
    assert checkpoints[0].state == {}
    assert checkpoints[1].state["draft"]["text"] == "A long answer to Why?"
    assert checkpoints[2].state["problems"] == ["It is brief. too long"]
    assert checkpoints[2].state["spent"]["model_calls"] == 2
    assert checkpoints[-1].state["output"] == task.output
    assert {c.attempt for c in checkpoints} == {1}
    assert not any(c.is_cut for c in checkpoints)
    paged: list[TaskCheckpoint] = []
    token = ""
    while True:
        page, token = await travel.list(task.id, size=2, token=token)
        paged += page
        if not token:
            break
    assert paged == list(checkpoints)


async def test_a_fork_goes_on_from_a_step_with_another_state(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    models = ScriptedModels(critic)
    bench.models = models
    fork = await travel.fork(
        fork_of(task.id, step="revise", state={"problems": ["It is dull."], "revisions": None, "spent": {"steps": 5}})
    )
    assert (fork.forked_from_task_id, fork.status, fork.input) == (task.id, "pending", task.input)
    ended = await ran(bench, fork.id, ReflectWorkflow())
    assert ended.output is not None
    assert (ended.status, ended.output["text"]) == ("completed", "A short answer.")
    assert "It is dull." in models.asked[0].text
    assert [step for _, step, phase in await bench.steps(fork.id) if phase != "started"] == [
        "revise", "revise", "critique", "finish",
    ]  # fmt: skip
    checkpoints, _ = await travel.list(fork.id, size=100, token="")
    assert [c.attempt for c in checkpoints] == [0, 0, 0, 1, 1, 1]
    assert checkpoints[2].state["problems"] == ["It is dull."]
    assert checkpoints[2].state["spent"]["steps"] == 5
    # What it was forked from is as it was.
    before, _ = await travel.list(task.id, size=100, token="")
    assert before[2].state["problems"] == ["It is brief. too long"]
    assert await bench.stored.get(task.id) == task


async def test_a_fork_with_another_input_and_answer_asks_only_for_the_rest(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    models = ScriptedModels(critic)
    bench.models = models
    fork = await travel.fork(
        fork_of(
            task.id,
            input={"prompt": "How?"},
            answers={"draft": {"text": "A short draft."}, "revise:9": {"text": "never asked for"}},
        )
    )
    ended = await ran(bench, fork.id, ReflectWorkflow())
    assert ended.output is not None
    assert (ended.output["text"], ended.output["unused_answers"]) == ("A short draft.", ["revise:9"])
    assert [asked.output_schema is not None for asked in models.asked] == [True]
    assert "How?" in models.asked[0].text


async def test_a_fork_goes_on_from_a_state_without_what_ended_it(bench: Bench, travel: TimeTravel) -> None:
    task = await acted(bench)
    fork = await travel.fork(fork_of(task.id, step="answer", state={"ended_by": None}))
    assert (await ran(bench, fork.id, ToolsWorkflow())).status == "completed"
    task = await reflected(bench, max_revisions=0)
    assert task.output is not None
    assert task.output["ended_by"] == "revisions"
    fork = await travel.fork(fork_of(task.id, step="finish", state={"ended_by": None}))
    ended = await ran(bench, fork.id, ReflectWorkflow())
    assert ended.output is not None
    assert "ended_by" not in ended.output


async def test_an_answer_that_an_earlier_attempt_took_is_not_called_unused(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    fork = await travel.fork(fork_of(task.id, answers={"draft": {"text": "A short draft."}}))

    def away(_: Asked) -> Reply:
        return Unavailable("away")

    bench.models = ScriptedModels(away)
    assert (await ran(bench, fork.id, ReflectWorkflow())).status == "pending"
    bench.models = ScriptedModels(critic)
    await bench.due_now(fork.id)
    ended = await ran(bench, fork.id, ReflectWorkflow())
    assert ended.output is not None
    assert ended.output["text"] == "A short draft."
    assert "unused_answers" not in ended.output


async def test_a_fork_keeps_the_tool_calls_of_finished_steps_and_takes_edited_ones(
    bench: Bench, travel: TimeTravel
) -> None:
    tool = weather()
    task = await acted(bench, tool)
    assert task.output is not None
    assert task.output["text"] == "It says: sunny"
    assert len(tool.calls) == 1
    answering = await travel.fork(fork_of(task.id, step="answer"))
    ended = await ran(bench, answering.id, ToolsWorkflow())
    assert ended.output is not None
    assert ended.output["text"] == "It says: sunny"
    assert len(tool.calls) == 1
    edited = await travel.fork(fork_of(task.id, step="observe", answers={"act:0:0": {"content": "rainy"}}))
    ended = await ran(bench, edited.id, ToolsWorkflow())
    assert ended.output is not None
    assert ended.output["text"] == "It says: rainy"
    assert len(tool.calls) == 1
    # Without an answer the call of a step that is done again is made again.
    again = await travel.fork(fork_of(task.id, step="observe"))
    await ran(bench, again.id, ToolsWorkflow())
    assert len(tool.calls) == 2


async def test_a_fork_before_the_first_step_makes_its_calls_again(
    bench: Bench, travel: TimeTravel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("HEARTH_TEST_NOTES", str(notes))
    bench.models = ScriptedModels(lambda _: "done")
    task = await ran(bench, await bench.storage.new_task(), StepsWorkflow())
    for step, again in (("first", STEPS), ("second", STEPS[1:])):
        fork = await travel.fork(fork_of(task.id, step=step))
        await ran(bench, fork.id, StepsWorkflow())
        assert [line.split() for line in notes.read_text().splitlines() if fork.id in line] == [
            [fork.id, name] for name in again
        ]


async def test_a_replay_is_identical_and_asks_nobody(bench: Bench, travel: TimeTravel) -> None:
    for task, workflow in ((await reflected(bench), ReflectWorkflow()), (await acted(bench), ToolsWorkflow())):
        replayed = await replayed_task(bench, travel, task, workflow)
        assert (replayed.status, replayed.error_message) == ("completed", None)
        assert task.output is not None
        assert replayed.output == {**task.output, "replay": {"identical": True, "first_difference": None}}


def planner(asked: Asked) -> Reply:
    """Plans two steps side by side and one after them."""
    properties = (asked.output_schema or {}).get("properties", {})
    if "steps" in properties:
        plan = (("look", "helper", ()), ("see", "helper", ()), ("tell", "none", (1, 2)))
        return {"steps": [{"task": task, "by": by, "needs": list(needs)} for task, by, needs in plan]}
    if "ok" in properties:
        return {"problem": "", "ok": True}
    return dict.fromkeys(properties, "it") if properties else "the answer"


async def test_a_replay_of_a_plan_makes_none_of_its_calls(bench: Bench, travel: TimeTravel) -> None:
    tool = FakeTool("helper", lambda a: f"found {a['what']}", what=CITY)
    bench.models, bench.tools = ScriptedModels(planner), (tool,)
    task = await ran(bench, await bench.storage.new_task(), PlanWorkflow())
    assert (task.status, len(tool.calls)) == ("completed", 2)
    replayed = await replayed_task(bench, travel, task, PlanWorkflow())
    assert task.output is not None
    assert replayed.output == {**task.output, "replay": {"identical": True, "first_difference": None}}
    assert len(tool.calls) == 2


async def test_a_replay_of_a_team_starts_no_task(bench: Bench, travel: TimeTravel) -> None:
    helper = await bench.storage.new_agent(name="helper", description="Helps")
    bench.models = ScriptedModels(planner)
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(agents=[helper]))
    waiting = await ran(bench, await bench.storage.new_task(agent_id=agent_id), TeamWorkflow())
    assert len(waiting.pending) == 2
    for pending in waiting.pending:
        await ran(bench, str(pending.task_id), ChatWorkflow())
    task = await ran(bench, waiting.id, TeamWorkflow())
    assert task.status == "completed"
    replayed = await replayed_task(bench, travel, task, TeamWorkflow())
    assert task.output is not None
    assert replayed.output == {**task.output, "replay": {"identical": True, "first_difference": None}}
    assert await bench.storage.sql("SELECT FROM tasks WHERE parent_task_id = $1", replayed.id) == []


async def test_a_replay_is_given_what_people_said(bench: Bench, travel: TimeTravel) -> None:
    tool = weather(needs_approval=True)
    waiting = await acted(bench, tool)
    assert waiting.status == "waiting"
    with pytest.raises(TaskNotReplayable, match="is waiting"):
        await travel.replay(waiting.id, idempotency_key=None)
    (pending,) = waiting.pending
    answers = [RequestAnswer(id=pending.id, answer={"decision": "approve"})]
    await bench.requests.resume(waiting.id, answers)
    task = await ran(bench, waiting.id, ToolsWorkflow())
    assert (task.status, tool.calls) == ("completed", [{"city": "Paris"}])
    replayed = await replayed_task(bench, travel, task, ToolsWorkflow())
    assert replayed.output is not None
    assert replayed.output["replay"] == {"identical": True, "first_difference": None}


class SlowModels(ScriptedModels):
    """Takes its time."""

    async def chat(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        async for item in super().chat(*args, **options):
            yield item


async def test_a_replay_takes_the_time_that_was_taken(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench, budget=agent_pb2.Budget(max_seconds=0.04), models=SlowModels)
    assert task.output is not None
    assert task.output["ended_by"] == "seconds"
    replayed = await replayed_task(bench, travel, task, ReflectWorkflow())
    assert replayed.output == {**task.output, "replay": {"identical": True, "first_difference": None}}


async def test_a_replay_outlives_its_worker(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    replay = await travel.replay(task.id, idempotency_key=None)
    run, running = await bench.run_task(replay.id, ReflectWorkflow())
    bench.hand_over(run)
    await running
    assert (await bench.stored.get(replay.id)).status == "pending"
    replayed = await ran(bench, replay.id, ReflectWorkflow())
    assert replayed.attempt == 2
    assert task.output is not None
    assert replayed.output == {**task.output, "replay": {"identical": True, "first_difference": None}}


async def test_a_replay_is_of_the_agent_as_it_was(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench, system_prompt="You are brief.")
    await bench.storage.sql(
        "UPDATE agents SET model_name = 'other', config = '{}', is_active = false WHERE id = $1", task.agent_id
    )
    replayed = await replayed_task(bench, travel, task, ReflectWorkflow())
    assert replayed.output is not None
    assert replayed.output["replay"] == {"identical": True, "first_difference": None}
    with pytest.raises(AgentInactive):
        await travel.fork(fork_of(task.id))


async def test_a_replay_of_a_fork_begins_where_the_fork_did(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    fork = await travel.fork(
        fork_of(task.id, step="revise", state={"problems": ["Dull."]}, answers={"revise:1": {"text": "A short poem."}})
    )
    ended = await ran(bench, fork.id, ReflectWorkflow())
    replayed = await replayed_task(bench, travel, ended, ReflectWorkflow())
    assert replayed.output is not None
    assert replayed.output["text"] == "A short poem."
    assert replayed.output["replay"] == {"identical": True, "first_difference": None}


@pytest.mark.parametrize(
    ("step", "answers", "text"),
    [("answer", {}, "It says: sunny"), ("observe", {"act:0:0": {"content": "rainy"}}, "It says: rainy")],
)
async def test_a_replay_of_a_fork_knows_the_tool_calls_that_it_had(
    bench: Bench, travel: TimeTravel, step: str, answers: dict[str, Any], text: str
) -> None:
    tool = weather()
    task = await acted(bench, tool)
    fork = await travel.fork(fork_of(task.id, step=step, answers=answers))
    ended = await ran(bench, fork.id, ToolsWorkflow())
    replayed = await replayed_task(bench, travel, ended, ToolsWorkflow())
    assert ended.output is not None
    assert replayed.output == {**ended.output, "replay": {"identical": True, "first_difference": None}}
    assert (ended.output["text"], len(tool.calls)) == (text, 1)


class Changed(ReflectWorkflow):
    """What `reflect` may be in a later version: it goes by other criteria than the agent's."""

    def __init__(self, *criteria: str) -> None:
        super().__init__()
        self._criteria = criteria

    async def run(self, context: RunContext) -> dict[str, Any]:
        agent = replace(context.agent, config=replace(context.agent.config, criteria=self._criteria))
        return await super().run(replace(context, agent=agent))


async def test_a_replay_tells_the_first_call_that_differs(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    replayed = await replayed_task(bench, travel, task, Changed("It rhymes."))
    assert replayed.status == "completed"
    assert replayed.output is not None
    report = replayed.output["replay"]
    assert report["identical"] is False
    difference = report["first_difference"]
    assert (difference["kind"], difference["call"], difference["part"]) == ("model_call", "critique:0:0", "messages.0")
    assert difference["then"]["characters"] != difference["now"]["characters"]
    assert "It rhymes." in difference["now"]["content"]
    # One more criterion is one more call, which nobody made then.
    replayed = await replayed_task(bench, travel, task, Changed("It is brief.", "It rhymes."))
    assert replayed.output is not None
    difference = replayed.output["replay"]["first_difference"]
    assert (difference["call"], difference["part"], difference["then"]) == ("critique:0:1", "call", None)


@pytest.mark.parametrize("error", [ModelRefused("No."), ModelOutputInvalid("n is missing")])
async def test_a_failed_run_is_replayed_to_the_same_failure(
    bench: Bench, travel: TimeTravel, error: HearthError
) -> None:
    task = await reflected(bench, lambda _: error, output_schema='{"type": "object"}', max_retries=0)
    assert task.status == "failed"
    replayed = await replayed_task(bench, travel, task, ReflectWorkflow())
    assert replayed.output is not None
    assert replayed.output["replay"] == {"identical": True, "first_difference": None}


async def test_a_replay_after_another_end_says_so(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench, lambda _: ModelRefused("No."), max_retries=0)
    await bench.storage.sql("UPDATE tasks SET error_code = 'run_timeout' WHERE id = $1", task.id)
    replayed = await replayed_task(bench, travel, task, ReflectWorkflow())
    assert replayed.output is not None
    assert replayed.output["replay"]["first_difference"] == {
        "kind": "end",
        "call": None,
        "part": "end",
        "then": {"status": "failed", "error_code": "run_timeout"},
        "now": {"status": "failed", "error_code": "model_refused"},
    }


async def test_what_cannot_be_forked_or_replayed_says_why(bench: Bench, travel: TimeTravel) -> None:
    with pytest.raises(TaskNotFound):
        await travel.list(new_id(), size=1, token="")
    waiting = await bench.storage.new_task()
    assert await travel.list(waiting, size=1, token="") == ((), "")
    for made in (travel.fork(fork_of(waiting)), travel.replay(waiting, idempotency_key=None)):
        with pytest.raises(TaskNotReplayable):
            await made
    task = await reflected(bench)
    last = (await travel.list(task.id, size=100, token=""))[0][-1].id
    for fields, said in (
        ({"step": "fly"}, "has: critique, draft, finish, revise"),
        ({"state": {}}, "needs a checkpoint_id or a step"),
        ({"step": "revise", "state": {"mood": 1}}, "state.mood is not in this state"),
        ({"step": "revise", "state": {"spent": {"coins": 1}}}, "state.spent.coins is not known"),
        ({"checkpoint_id": last}, "is the run's last"),
        ({"checkpoint_id": last, "step": "draft"}, "together"),
        ({"input": {"question": 1}}, "input must be"),
        ({"answers": {"draft": {"txt": "a"}}}, "takes `text`"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            await travel.fork(fork_of(task.id, **fields))
    with pytest.raises(CheckpointNotFound):
        await travel.fork(fork_of(task.id, checkpoint_id="1"))
    replayed = await replayed_task(bench, travel, task, ReflectWorkflow())
    for made in (travel.fork(fork_of(replayed.id)), travel.replay(replayed.id, idempotency_key=None)):
        with pytest.raises(TaskNotReplayable, match=task.id):
            await made


async def test_the_same_key_gives_the_same_task(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    key = new_id()
    first = await travel.fork(fork_of(task.id, step="revise", idempotency_key=key))
    assert (await travel.fork(fork_of(task.id, step="revise", idempotency_key=key))).id == first.id
    with pytest.raises(HearthError, match="key came with another request"):
        await travel.fork(fork_of(task.id, step="draft", idempotency_key=key))


async def test_a_history_that_is_kept_no_longer_is_told(bench: Bench, travel: TimeTravel) -> None:
    task = await reflected(bench)
    await bench.storage.sql("DELETE FROM task_histories WHERE task_id = $1", task.id)
    for made in (
        travel.list(task.id, size=1, token=""),
        travel.fork(fork_of(task.id)),
        travel.fork(fork_of(task.id, step="revise")),
        travel.fork(fork_of(task.id, checkpoint_id="1")),
        travel.replay(task.id, idempotency_key=None),
    ):
        with pytest.raises(HistoryExpired, match="HEARTH_CHECKPOINT_RETENTION_DAYS"):
            await made


async def test_a_replay_of_a_run_that_waited_asks_nobody(
    bench: Bench, travel: TimeTravel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTH_TEST_NOTES", str(tmp_path / "notes"))
    workflow = AsksWorkflow()
    task_id = await bench.storage.new_task()
    task = await ran(bench, task_id, workflow)
    while task.status is TaskStatus.WAITING:
        (pending,) = task.pending
        await bench.requests.resume(task_id, [RequestAnswer(id=pending.id, answer={"output": f"of {pending.id}"})])
        task = await ran(bench, task_id, workflow)
    assert (task.status, task.attempt) == (TaskStatus.COMPLETED, 5)
    again = await replayed_task(bench, travel, task, workflow)
    assert again.status == TaskStatus.COMPLETED, again
    assert again.output is not None
    assert task.output is not None
    assert again.output["text"] == task.output["text"]


async def test_a_replay_of_a_run_with_a_client_tool_needs_no_client(bench: Bench, travel: TimeTravel) -> None:
    def led(asked: Asked) -> Reply:
        if asked.output_schema is not None:
            return {"city": "Paris"}
        return f"It says: {'sunny' if 'sunny' in asked.text else 'rainy'}"

    bench.models, bench.tools = ScriptedModels(led), ()
    parameters = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
    tool = agent_pb2.ClientTool(name="weather", description="The weather in a city", parameters=parameters)
    question = '{"prompt": "The weather in the city of Paris?"}'
    task_id = await bench.storage.new_task(input=question, tools=[tool])
    waiting = await ran(bench, task_id, ToolsWorkflow())
    (pending,) = waiting.pending
    assert (pending.name, pending.arguments) == ("weather", {"city": "Paris"})
    await bench.requests.resume(task_id, [RequestAnswer(id=pending.id, answer={"output": "sunny in Paris"})])
    task = await ran(bench, task_id, ToolsWorkflow())
    assert task.output is not None, task
    assert task.output["text"] == "It says: sunny"
    again = await replayed_task(bench, travel, task, ToolsWorkflow())
    assert again.output is not None, again
    assert again.output["text"] == "It says: sunny"
