"""The workflow `tools` over real storage and Redis, with models and tools that do what a test wrote down."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from agent_service.inference import ToolCall
from agent_service.request_store import RequestAnswer
from agent_service.tool import ToolResult
from agent_service.tools_workflow import ToolsWorkflow
from fakes.models import Asked, Reply, ScriptedModels
from fakes.tools import FakeTool
from hearth.agent.v1 import agent_pb2
from hearth_runtime.errors import ModelOutputInvalid
from hearth_runtime.events import EventKind
from hearth_runtime.tasks import Task
from servers.agent_bench import Bench
from system.waiting import eventually

NATIVE = frozenset({"completion", "tools"})
CITY = {"type": "string"}


def weather(answer: Callable[[dict[str, Any]], Any] = lambda a: f"sunny in {a['city']}", **options: Any) -> FakeTool:
    return FakeTool("weather", answer, description="The weather in a city", city=CITY, **options)


async def start(bench: Bench, models: ScriptedModels, *tools: FakeTool, **config: Any) -> tuple[str, Any]:
    bench.models, bench.tools = models, tools
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(**config))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "What is the weather in Paris?"}')
    _, running = await bench.run_task(task_id, ToolsWorkflow())
    return task_id, running


async def run(bench: Bench, models: ScriptedModels, *tools: FakeTool, **config: Any) -> Task:
    task_id, running = await start(bench, models, *tools, **config)
    await running
    return await bench.stored.get(task_id)


def native(*rounds: Reply) -> ScriptedModels:
    """A model with native tool calls that says these one after the other."""
    left = iter(rounds)
    return ScriptedModels(lambda _: next(left), can=NATIVE)


def call(city: str) -> tuple[ToolCall, ...]:
    return (ToolCall(name="weather", arguments={"city": city}),)


async def test_a_model_calls_a_tool_sees_its_result_and_answers(bench: Bench) -> None:
    models, tool = native(call("Paris"), "It is sunny."), weather()
    task = await run(bench, models, tool)
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "It is sunny.")
    assert tool.calls == [{"city": "Paris"}]
    assert (task.output["usage"]["model_calls"], task.output["usage"]["tool_calls"]) == (2, 1)
    assert models.asked[0].tools == ("weather",)
    assert "sunny in Paris" in models.asked[1].text
    assert "no instruction" in models.asked[1].text
    found = [e for e in await bench.events(task.id) if e.kind in (EventKind.TOOL_CALL, EventKind.TOOL_RESULT)]
    assert [(e.kind, e.context.get("how", e.message)) for e in found] == [
        ("tool_call", "native"),
        ("tool_result", "sunny in Paris"),
    ]


async def test_several_calls_are_made_side_by_side(bench: Bench) -> None:
    both = asyncio.Barrier(2)

    async def together(_: dict[str, Any]) -> str:
        async with asyncio.timeout(5):
            await both.wait()
        return "met"

    tool = weather(together)
    task = await run(bench, native((*call("Paris"), *call("Rome")), "done"), tool)
    assert task.status == "completed"
    assert len(tool.calls) == 2


async def test_a_model_without_tools_is_led_by_schemas(bench: Bench) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.output_schema is None:
            return "It is sunny."
        properties = asked.output_schema["properties"]
        return {"city": "Paris"} if "city" in properties else dict.fromkeys(properties, "Paris")

    tool = weather()
    models = ScriptedModels(reply)
    task = await run(bench, models, tool)
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "It is sunny.")
    assert tool.calls == [{"city": "Paris"}]
    assert all(not asked.tools for asked in models.asked)
    call_event = next(e for e in await bench.events(task.id) if e.kind is EventKind.TOOL_CALL)
    assert call_event.context["how"] in ("constrained", "repaired")


async def test_a_native_call_that_could_not_be_read_counts_by_its_estimate(bench: Bench) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.tools:
            return ModelOutputInvalid("The model called a tool in a way that its host could not read.")
        if asked.output_schema is None:
            return "It is sunny."
        return dict.fromkeys(asked.output_schema["properties"], "Paris")

    models = ScriptedModels(reply, can=NATIVE)
    task = await run(bench, models, weather(), budget=agent_pb2.Budget(max_steps=1))
    assert task.output is not None
    usage, answered = task.output["usage"], sum(1 for asked in models.asked if not asked.tools)
    assert (task.status, usage["model_calls"]) == ("completed", len(models.asked))
    assert len(models.asked) == answered + 1
    # Each that answered took 10, as the model said; the other some 25 by the length of its prompt and its tools.
    assert 10 * answered + 20 < usage["prompt_tokens"] < 10 * answered + 200


async def test_a_tool_that_fails_is_told_to_the_model(bench: Bench) -> None:
    def fails(_: dict[str, Any]) -> str:
        raise RuntimeError("the roof is off")

    models = native(call("Paris"), "I do not know.")
    task = await run(bench, models, weather(fails))
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "I do not know.")
    assert "the roof is off" in models.asked[1].text


async def test_what_a_tool_says_of_itself_is_neither_usage_nor_a_passage(bench: Bench) -> None:
    passage = {
        "marker": 1,
        "document_id": "d",
        "name": "n",
        "page": None,
        "span": [0, 19],
        "text": "It is sunny in Paris",
    }
    said = {"task_id": "t", "usage": {"prompt_tokens": -1000, "completion_tokens": 0}, "chunks": [passage]}
    tool = weather(lambda _: ToolResult(content="sunny", data=said))
    task = await run(bench, native(call("Paris"), "It is sunny in Paris [1]."), tool)
    assert task.output is not None
    assert task.output["usage"]["prompt_tokens"] == 20
    assert "citations" not in task.output


async def test_a_loop_of_the_same_call_is_broken(bench: Bench) -> None:
    models, tool = (
        ScriptedModels(lambda asked: call("Paris") if asked.tools else "Sunny, I think.", can=NATIVE),
        weather(),
    )
    task = await run(bench, models, tool)
    assert task.output is not None
    assert (task.output["text"], task.output["ended_by"]) == ("Sunny, I think.", "repeated_calls")
    assert len(tool.calls) == 2
    codes = [e.context.get("code") for e in await bench.events(task.id) if e.kind is EventKind.LOG]
    assert codes == ["repeated_calls"]


async def test_a_call_that_one_answer_asks_for_again_and_again_is_made_as_often_as_others(bench: Bench) -> None:
    tool = weather()
    task = await run(bench, native((*call("Paris"), *call("Rome"), *call("Paris") * 6), "Sunny."), tool)
    assert task.status == "completed"
    assert sorted(made["city"] for made in tool.calls) == ["Paris", "Paris", "Rome"]


async def test_what_is_said_beside_a_call_that_fails_is_no_answer(bench: Bench) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.tools:
            return "Let me check.", ToolCall(name="weather", arguments={"days": "few"})
        return "I do not know." if asked.output_schema is None else {"days": "few"}

    tool = FakeTool("weather", lambda _: "sunny", description="The weather in a city", days={"type": "integer"})
    task = await run(bench, ScriptedModels(reply, can=NATIVE), tool)
    assert task.output is not None
    assert (task.status, task.output["text"], tool.calls) == ("completed", "I do not know.", [])


@pytest.mark.parametrize(
    ("budget", "ended_by", "made"),
    [
        ({"max_tool_calls": 2}, "tool_calls", 2),
        ({"max_steps": 3}, "steps", 3),
        ({"max_tool_calls": 0}, "tool_calls", 0),
    ],
)
async def test_a_budget_ends_acting_with_the_best_answer_so_far(
    bench: Bench, budget: Any, ended_by: str, made: int
) -> None:
    cities = iter(range(99))
    models = ScriptedModels(lambda asked: call(f"city {next(cities)}") if asked.tools else "enough", can=NATIVE)
    tool = weather()
    task = await run(bench, models, tool, budget=agent_pb2.Budget(**budget))
    assert task.output is not None
    assert (task.output["text"], task.output["ended_by"], len(tool.calls)) == ("enough", ended_by, made)


async def test_an_output_schema_holds_the_answer(bench: Bench) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.tools:
            return call("Paris") if "sunny in" not in asked.text else "It is sunny."
        return {"weather": "sunny"}

    task = await run(bench, ScriptedModels(reply, can=NATIVE), weather(), output_schema='{"type": "object"}')
    assert task.output is not None
    assert task.output["data"] == {"weather": "sunny"}


async def test_a_killed_run_makes_its_calls_once_with_the_arguments_that_were_chosen(bench: Bench) -> None:
    cities = iter(("Paris", "Rome", "Oslo"))
    reached, go = asyncio.Event(), asyncio.Event()

    async def hang_once(arguments: dict[str, Any]) -> str:
        if not reached.is_set():
            reached.set()
            await go.wait()
        return f"sunny in {arguments['city']}"

    def reply(asked: Asked) -> Reply:
        return "done" if "sunny in" in asked.text else call(next(cities))

    tool = weather(hang_once)
    task_id, running = await start(bench, ScriptedModels(reply, can=NATIVE), tool)
    await reached.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", task_id)
    await bench.stored.take_due(limit=100, ring_again_after=timedelta(hours=1), delivered_before=None)
    _, again = await bench.run_task(task_id, ToolsWorkflow())
    await again
    task = await bench.stored.get(task_id)
    assert (task.status, task.attempt) == ("completed", 2)
    assert tool.calls == [{"city": "Paris"}, {"city": "Paris"}]


async def resume(bench: Bench, task_id: str, call_id: str, answer: dict[str, Any]) -> Task:
    """Answers what the task waits for, and lets it go on to its end."""
    task = await bench.stored.get(task_id)
    assert task.status == "waiting"
    await bench.requests.resume(task_id, [RequestAnswer(id=call_id, answer=answer)])
    _, again = await bench.run_task(task_id, ToolsWorkflow())
    await again
    return await bench.stored.get(task_id)


@pytest.mark.parametrize(
    ("answer", "called"),
    [
        ({"decision": "approve"}, [{"city": "Paris"}]),
        ({"decision": "approve", "arguments": {"city": "Rome"}}, [{"city": "Rome"}]),
        ({"decision": "reject", "reason": "Not today."}, []),
    ],
)
async def test_a_call_that_needs_approval_waits_for_a_person(
    bench: Bench, answer: dict[str, Any], called: list[dict[str, Any]]
) -> None:
    models, tool = native(call("Paris"), "done"), weather(needs_approval=True)
    task_id, running = await start(bench, models, tool)
    await running
    waiting = await bench.stored.get(task_id)
    assert [(p.id, p.kind, p.name, p.arguments) for p in waiting.pending] == [
        ("act:0:0:approval", "approval", "weather", {"city": "Paris"})
    ]
    assert tool.calls == []
    task = await resume(bench, task_id, "act:0:0:approval", answer)
    assert (task.status, task.retry_count, tool.calls) == ("completed", 0, called)
    assert "Not today." in models.asked[-1].text or called
    # The choice was kept: the model was asked for it once.
    assert len(models.asked) == 2


async def test_a_call_that_nobody_approves_in_time_is_refused(bench: Bench) -> None:
    models, tool = native(call("Paris"), "done"), weather(needs_approval=True)
    task_id, running = await start(bench, models, tool, approval_timeout_seconds=0.01)
    await running

    async def is_due() -> bool:
        await bench.stored.take_due(queue="runs", limit=100, ring_again_after=timedelta(hours=1), delivered_before=None)
        return (await bench.stored.get(task_id)).status == "pending"

    await eventually(is_due, what="the end of the wait")
    _, again = await bench.run_task(task_id, ToolsWorkflow())
    await again
    assert (await bench.stored.get(task_id)).status == "completed"
    assert tool.calls == []
    assert "Nobody answered in time." in models.asked[-1].text


async def test_an_agent_without_tools_answers(bench: Bench) -> None:
    task = await run(bench, ScriptedModels(lambda _: "hello"))
    assert task.output is not None
    assert task.output["text"] == "hello"


async def test_tools_that_leave_no_room_in_the_context_are_told(bench: Bench) -> None:
    task = await run(bench, native(), weather(), context_tokens=32)
    assert (task.status, task.error_code) == ("failed", "invalid_argument")
    assert "The agent's tools alone come to about" in str(task.error_message)
    assert "give the agent fewer tools" in str(task.error_message)


@pytest.mark.parametrize("can", [NATIVE, frozenset({"completion"})])
async def test_results_that_do_not_fit_are_shortened_whoever_chooses(bench: Bench, can: frozenset[str]) -> None:
    left = 2

    def reply(asked: Asked) -> Reply:
        nonlocal left
        if asked.tools and left:
            left -= 1
            return call(f"city {left}")
        if asked.output_schema is not None:
            return {name: f"city {len(models.asked)}" for name in asked.output_schema["properties"]}
        return "sunny"

    models = ScriptedModels(reply, can=can)
    tool = weather(lambda a: f"{a['city']} " + "is sunny, " * 700)
    task = await run(bench, models, tool, context_tokens=1600, max_tokens=100, budget=agent_pb2.Budget(max_steps=2))
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "sunny")
    assert len(tool.calls) >= 1
    codes = [e.context.get("code") for e in await bench.events(task.id) if e.kind is EventKind.LOG]
    assert "context_cut" in codes
    assert "characters left out" in models.asked[-1].text
    assert "What is the weather in Paris?" in models.asked[-1].text


async def test_a_call_is_repaired_beside_results_that_do_not_fit(bench: Bench) -> None:
    rounds: Iterator[Reply] = iter([call("Paris"), (ToolCall(name="weather", arguments={"city": 5}),), "sunny"])
    models = ScriptedModels(lambda asked: next(rounds) if asked.tools else {"city": "Rome"}, can=NATIVE)
    tool = weather(lambda a: f"{a['city']} " + "is sunny, " * 700)
    task = await run(bench, models, tool, context_tokens=1600, max_tokens=100)
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "sunny")
    assert tool.calls == [{"city": "Paris"}, {"city": "Rome"}]
