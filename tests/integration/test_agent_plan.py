"""The workflow `plan` over real storage and Redis, with models and tools that do what a test wrote down."""

import asyncio
from typing import Any

from agent_service.chat_workflow import ChatWorkflow
from agent_service.citations import cited
from agent_service.plan import steps_of
from agent_service.plan_workflow import PlanWorkflow, TeamWorkflow
from agent_service.storage import StoredAgents
from agent_service.tool import Gives, ToolResult
from agent_service.workflow import RunContext
from fakes.models import Asked, Reply, ScriptedModels
from fakes.tools import FakeTool
from hearth.agent.v1 import agent_pb2
from hearth_runtime.agents import Budget
from hearth_runtime.errors import Unavailable
from hearth_runtime.events import EventKind
from hearth_runtime.tasks import Task
from servers.agent_bench import Bench, Working


class Planner:
    """Plans these one after the other, calls each tool with the task's text, and finds fault with texts that say so."""

    def __init__(self, *plans: list[tuple[str, str, list[int]]]) -> None:
        self._plans = iter(plans)
        self.answered = ""

    def __call__(self, asked: Asked) -> Reply:
        properties = (asked.output_schema or {}).get("properties", {})
        if "steps" in properties:
            plan = next(self._plans)
            return {"steps": [{"task": task, "by": by, "needs": needs} for task, by, needs in plan]}
        if "ok" in properties:
            return {"problem": "it is broken" if "broken" in asked.text else "", "ok": "broken" not in asked.text}
        if properties:
            return dict.fromkeys(properties, asked.messages[-1].content.split("\n")[0])
        if "with these results" in asked.text or "Not everything" in asked.text:
            self.answered = asked.text
            return "the answer"
        return "thought about it"


async def run(bench: Bench, planner: Planner, *tools: FakeTool, **config: Any) -> Task:
    bench.models, bench.tools = ScriptedModels(planner), tools
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(**config))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, PlanWorkflow())
    await running
    return await bench.stored.get(task_id)


def tool(name: str, answer: Any, gives: Gives | None = None) -> FakeTool:
    return FakeTool(name, answer, gives=gives, what={"type": "string"})


async def test_steps_that_need_nothing_of_each_other_go_side_by_side(bench: Bench) -> None:
    both = asyncio.Barrier(2)

    async def together(_: dict[str, Any]) -> str:
        async with asyncio.timeout(5):
            await both.wait()
        return "met"

    planner = Planner([("find one", "left", []), ("find two", "right", []), ("add them", "none", [1, 2])])
    task = await run(bench, planner, tool("left", together), tool("right", together))
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "the answer")
    assert [(s["id"], s["by"], s["state"]) for s in task.output["steps"]] == [
        (1, "left", "done"),
        (2, "right", "done"),
        (3, "none", "done"),
    ]
    assert task.output["usage"]["tool_calls"] == 2
    assert planner.answered.count("met") == 2
    assert "thought about it" in planner.answered
    plan = next(e for e in await bench.events(task.id) if e.context.get("code") == "plan")
    assert [s["needs"] for s in plan.context["steps"]] == [[], [], [1, 2]]
    assert plan.kind is EventKind.LOG


async def test_a_step_waits_for_those_that_it_needs(bench: Bench) -> None:
    order: list[str] = []

    def note(name: str) -> Any:
        def noted(_: dict[str, Any]) -> str:
            order.append(name)
            return name

        return noted

    planner = Planner([("first", "left", []), ("second", "right", [1])])
    await run(bench, planner, tool("left", note("left")), tool("right", note("right")))
    assert order == ["left", "right"]


async def test_a_plan_is_revised_where_a_step_failed(bench: Bench) -> None:
    planner = Planner([("try it", "left", [])], [("try it otherwise", "right", [])])
    task = await run(bench, planner, tool("left", lambda _: "broken"), tool("right", lambda _: "fine"))
    assert task.output is not None
    assert "ended_by" not in task.output
    assert [(s["id"], s["state"], s["problem"]) for s in task.output["steps"]] == [
        (1, "failed", "it is broken"),
        (2, "done", ""),
    ]


async def test_revisions_are_bounded_and_the_answer_says_so(bench: Bench) -> None:
    plans: list[list[tuple[str, str, list[int]]]] = [[("try it", "left", [])] for _ in range(5)]
    task = await run(bench, Planner(*plans), tool("left", lambda _: "broken"), max_revisions=1)
    assert task.output is not None
    assert (task.status, task.output["ended_by"], len(task.output["steps"])) == ("completed", "revisions", 2)


async def test_a_budget_of_steps_ends_it(bench: Bench) -> None:
    planner = Planner([("one", "left", []), ("two", "left", [1]), ("three", "left", [2])])
    task = await run(bench, planner, tool("left", lambda _: "x"), budget=agent_pb2.Budget(max_steps=2))
    assert task.output is not None
    assert (task.output["text"], task.output["ended_by"]) == ("the answer", "steps")


async def test_a_step_whose_tool_is_gone_fails_and_is_planned_anew(bench: Bench) -> None:
    planner = Planner([("try it", "left", [])], [("try it otherwise", "right", [])])
    away = iter([Unavailable("away")])

    def reply(asked: Asked) -> Reply:
        is_of_a_call = "what" in (asked.output_schema or {}).get("properties", {})
        error = next(away, None) if is_of_a_call else None
        return error or planner(asked)

    bench.models, bench.tools = ScriptedModels(reply), [tool("left", lambda _: "x"), tool("right", lambda _: "y")]
    task_id = await bench.storage.new_task(input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, PlanWorkflow())
    await running
    bench.tools = bench.tools[1:]
    await bench.due_now(task_id)
    _, again = await bench.run_task(task_id, PlanWorkflow())
    await again
    task = await bench.stored.get(task_id)
    assert task.output is not None, task
    assert [(s["by"], s["state"], s["problem"]) for s in task.output["steps"]] == [
        ("left", "failed", "There is no tool left any more."),
        ("right", "done", ""),
    ]


async def test_the_same_call_is_made_only_as_often_as_the_budget_lets_it(bench: Bench) -> None:
    planner = Planner([("try it", "left", [])], [("try it", "left", [])], [("try it", "left", [])])
    left = tool("left", lambda _: "broken")
    task = await run(bench, planner, left, budget=agent_pb2.Budget(max_repeated_calls=0), max_revisions=2)
    assert task.output is not None
    assert len(left.calls) == 1
    assert task.output["usage"]["tool_calls"] == 1
    assert [s["problem"] for s in task.output["steps"]] == [
        "it is broken",
        *["The call of left is left out: config.budget.max_repeated_calls is reached."] * 2,
    ]


async def test_a_wave_makes_no_more_calls_than_are_left(bench: Bench) -> None:
    left, right = tool("left", lambda _: "x"), tool("right", lambda _: "y")
    planner = Planner([("one", "left", []), ("two", "right", [])])
    task = await run(bench, planner, left, right, budget=agent_pb2.Budget(max_tool_calls=1))
    assert task.output is not None
    assert (len(left.calls), len(right.calls), task.output["ended_by"]) == (1, 0, "tool_calls")
    assert [s["state"] for s in task.output["steps"]] == ["done", "failed"]


async def test_a_team_that_may_call_nothing_starts_no_sub_task(bench: Bench) -> None:
    helper = await bench.storage.new_agent(name="searcher")
    bench.models = ScriptedModels(Planner([("look it up", "searcher", [])]))
    config = agent_pb2.AgentConfig(agents=[helper], budget=agent_pb2.Budget(max_tool_calls=0))
    agent_id = await bench.storage.new_agent(config=config)
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running
    task = await bench.stored.get(task_id)
    assert task.output is not None, task
    assert (task.output["text"], task.output["ended_by"]) == ("the answer", "tool_calls")


def test_what_a_step_cannot_need_is_passed_over() -> None:
    data = {
        "steps": [
            {"task": "a", "by": "none", "needs": [1, 2, 9]},
            {"task": "b", "by": "none", "needs": [2, 1, 1, 0]},
        ]
    }
    assert [(s.id, s.needs) for s in steps_of(data, first_id=4)] == [(4, ()), (5, (4,))]


async def test_a_team_hands_its_steps_to_agents_and_waits_without_a_worker(bench: Bench) -> None:
    names = ("searcher", "writer")
    helpers = [await bench.storage.new_agent(name=name, description=f"A good {name}") for name in names]
    planner = Planner([("look it up", "searcher", []), ("write it", "writer", [])])
    bench.models = models = ScriptedModels(planner)
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(agents=helpers))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running

    waiting = await bench.stored.get(task_id)
    assert (waiting.status, {p.name for p in waiting.pending}) == ("waiting", {"searcher", "writer"})
    assert "A good searcher" in models.asked[0].text
    for pending in waiting.pending:
        assert pending.task_id is not None
        child = await bench.stored.get(pending.task_id)
        assert (child.status, child.parent_task_id, child.depth) == ("pending", task_id, 1)
        _, working = await bench.run_task(pending.task_id, ChatWorkflow())
        await working
    _, again = await bench.run_task(task_id, TeamWorkflow())
    await again
    task = await bench.stored.get(task_id)
    assert task.output is not None
    assert (task.status, task.output["text"], task.retry_count) == ("completed", "the answer", 0)
    assert [(s["by"], s["state"]) for s in task.output["steps"]] == [("searcher", "done"), ("writer", "done")]
    assert planner.answered.count("thought about it") == 2


async def test_a_team_without_members_says_what_is_missing(bench: Bench) -> None:
    bench.models = ScriptedModels(Planner())
    task_id = await bench.storage.new_task()
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running
    task = await bench.stored.get(task_id)
    assert (task.status, task.error_code) == ("failed", "invalid_argument")
    assert "config.agents" in str(task.error_message)


async def test_a_budget_goes_down_the_tree_and_what_is_used_there_counts_above(bench: Bench) -> None:
    helper = await bench.storage.new_agent(
        name="searcher", config=agent_pb2.AgentConfig(budget=agent_pb2.Budget(max_tool_calls=9, max_steps=3))
    )
    bench.models = ScriptedModels(Planner([("look it up", "searcher", [])]))
    budget = agent_pb2.Budget(max_model_tokens=70, max_tool_calls=4)
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(agents=[helper], budget=budget))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running
    (pending,) = (await bench.stored.get(task_id)).pending
    assert pending.task_id is not None
    child = await bench.stored.get(pending.task_id)
    assert child.input["budget"] == {"max_model_tokens": 70, "max_tool_calls": 4}
    seen: list[Any] = []

    async def work(context: RunContext) -> dict[str, Any]:
        seen.append(context.agent.config.budget)
        usage = {"prompt_tokens": 40, "completion_tokens": 5}
        return {"text": "found", "data": None, "usage": usage, "model": "m"}

    _, working = await bench.run_task(pending.task_id, Working(work))
    await working
    assert seen == [Budget(max_model_tokens=70, max_tool_calls=4, max_steps=3)]
    _, again = await bench.run_task(task_id, TeamWorkflow())
    await again
    task = await bench.stored.get(task_id)
    assert task.output is not None
    # 15 for the plan, 45 below, 15 for the check: the limit of 70 is reached before the answer.
    assert task.output["ended_by"] == "model_tokens"
    assert task.output["usage"]["prompt_tokens"] == 10 + 40 + 10 + 10


CHUNK = {
    "marker": 1,
    "document_id": "d1",
    "name": "travel.md",
    "page": 2,
    "span": [500, 540],
    "text": "A hotel costs at most 100 euros a night.",
}


class Citing(Planner):
    """Answers with a sentence that the documents have, and one that they have not."""

    def __call__(self, asked: Asked) -> Reply:
        reply = super().__call__(asked)
        return "A hotel costs at most 100 euros [1]. It has a pool [1]." if reply == "the answer" else reply


def cites_the_hotel(task: Task) -> bool:
    assert task.output is not None
    (citation,), (dropped,) = task.output["citations"], task.output["dropped_citations"]
    place = (citation["document_id"], citation["name"], citation["page"], citation["span"], citation["how"])
    return (
        place == ("d1", "travel.md", 2, [500, 540], "cited")
        and citation["quote"] == CHUNK["text"]
        and (dropped["marker"], dropped["reason"]) == (1, "not_in_text")
    )


async def test_an_answer_cites_what_its_steps_looked_up(bench: Bench) -> None:
    found = ToolResult(content="[1] travel.md\nA hotel costs at most 100 euros a night.", data={"chunks": [CHUNK]})
    planner = Citing([("look it up", "search_documents", []), ("think", "none", [1])])
    task = await run(bench, planner, tool("search_documents", lambda _: found, gives="passages"))
    assert cites_the_hotel(task)
    assert "citations" not in ((await run(bench, Citing([("think", "none", [])]))).output or {})


async def test_the_citations_of_a_sub_task_come_up_to_its_parent(bench: Bench) -> None:
    helper = await bench.storage.new_agent(name="clerk")
    bench.models = ScriptedModels(Citing([("look it up", "clerk", [])]))
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(agents=[helper]))
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running
    (pending,) = (await bench.stored.get(task_id)).pending
    assert pending.task_id is not None

    async def work(_: RunContext) -> dict[str, Any]:
        output: dict[str, Any] = {
            "text": "A hotel costs at most 100 euros a night [1].",
            "data": None,
            "usage": {},
            "model": "m",
        }
        return cited(output, [{"chunks": [CHUNK]}])

    _, working = await bench.run_task(pending.task_id, Working(work))
    await working
    _, again = await bench.run_task(task_id, TeamWorkflow())
    await again
    assert cites_the_hotel(await bench.stored.get(task_id))


async def test_a_member_that_was_deleted_fails_its_step_and_says_so(bench: Bench) -> None:
    helper = await bench.storage.new_agent(name="clerk")
    planner = Planner([("look it up", "clerk", [])])
    bench.models = ScriptedModels(planner)
    config = agent_pb2.AgentConfig(agents=[helper], max_revisions=0)
    agent_id = await bench.storage.new_agent(config=config)
    task_id = await bench.storage.new_task(agent_id=agent_id, input='{"prompt": "Do it."}')
    await StoredAgents(bench.storage.channel).deactivate(helper)
    _, running = await bench.run_task(task_id, TeamWorkflow())
    await running
    task = await bench.stored.get(task_id)
    assert task.output is not None
    ((problem, state),) = [(s["problem"], s["state"]) for s in task.output["steps"]]
    assert (state, task.output["ended_by"]) == ("failed", "revisions")
    assert f"Agent {helper} was deleted" in problem
