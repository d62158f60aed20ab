"""Tools that ask: clients, people and other agents."""

from datetime import UTC, datetime
from typing import Any

import pytest
from agent_service.budgets import Spent
from agent_service.builtin.ask_human import AskHuman, AskHumanKind
from agent_service.builtin.run_agent import RunAgent
from agent_service.client_tools import check_client_tools, client_tools
from agent_service.requests import RunWaits
from agent_service.team import Member
from agent_service.tool import Tool, ToolScope
from agent_service.toolbox import Observation, PlannedCall
from fakes.requests import FakeRequests
from hearth_runtime.agents import Agent, AgentConfig, ClientTool
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import PendingKind, Task, TaskStatus

NOW = datetime.now(UTC)


def agent(**config: Any) -> Agent:
    return Agent(
        id=new_id(),
        name="painter",
        description="Paints.",
        model_name="m",
        config=AgentConfig(**config),
        created_at=NOW,
        updated_at=NOW,
        is_active=True,
    )


def task(*tools: ClientTool) -> Task:
    return Task(
        id=new_id(),
        agent_id=new_id(),
        session_id=None,
        status=TaskStatus.RUNNING,
        input={"prompt": "x"},
        output=None,
        error_code=None,
        error_message=None,
        retry_count=0,
        attempt=1,
        created_at=NOW,
        started_at=NOW,
        completed_at=None,
        next_attempt_at=None,
        cancel_requested=False,
        tools=tools,
    )


def tool(name: str = "look_up", **fields: Any) -> ClientTool:
    return ClientTool(**{"name": name, "description": "d", "parameters": '{"type":"object"}', **fields})


async def test_a_client_tool_waits_and_then_gives_what_was_posted() -> None:
    requests = FakeRequests(text={"output": "shipped"}, json={"output": {"n": [1]}}, late={"timed_out": True})
    (called,) = client_tools(task(), agent(tools=(tool(timeout_seconds=5),)), requests)
    assert called.spec.repeatable
    with pytest.raises(RunWaits):
        await called.call({"a": 1}, call_id="open")
    pending = requests.asked[0]
    assert (pending.kind, pending.name, pending.arguments) == (PendingKind.TOOL_CALL, "look_up", {"a": 1})
    assert pending.timeout_seconds == 5
    assert (await called.call({}, call_id="text")).content == "shipped"
    result = await called.call({}, call_id="json")
    assert (result.content, result.data) == ('{"n":[1]}', {"n": [1]})
    late = await called.call({}, call_id="late")
    assert late.is_error
    assert "5 seconds" in late.content


def test_a_runs_tools_come_before_its_agents() -> None:
    of_agent = agent(tools=(tool("both"), tool("agents")))
    declared = client_tools(task(tool("both", description="the run's"), tool("runs")), of_agent, FakeRequests())
    assert [(t.spec.name, t.spec.description) for t in declared] == [
        ("both", "the run's"), ("agents", "d"), ("runs", "d")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tools", "field"),
    [
        ([tool("a b")], "tools[0].name"),
        ([tool(), tool()], "tools[1].name"),
        ([tool(parameters="{")], "tools[0].parameters"),
        ([tool(parameters='{"type":"array"}')], "tools[0].parameters"),
        ([tool(parameters='{"properties":1}')], "tools[0].parameters"),
        ([tool(timeout_seconds=-1.0)], "tools[0].timeout_seconds"),
        ([tool(str(n)) for n in range(33)], "tools"),
    ],
)
def test_client_tools_that_cannot_be_called_are_refused(tools: list[ClientTool], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_client_tools(tools, field="tools")
    assert [violation.field for violation in caught.value.fields] == [field]


async def test_a_person_is_asked_with_the_choices_and_the_default() -> None:
    requests = FakeRequests(known={"output": "red"}, late={"timed_out": True})
    ask = AskHuman(requests, choices=["red", "blue"], timeout_seconds=60, default="blue")
    with pytest.raises(RunWaits):
        await ask.call({"question": "Which?"}, call_id="open")
    pending = requests.asked[0]
    assert pending.arguments == {"question": "Which?", "choices": ["red", "blue"]}
    assert (pending.timeout_seconds, pending.default) == (60, {"output": "blue"})
    assert (await ask.call({"question": "Which?"}, call_id="known")).content == "red"
    assert (await ask.call({"question": "Which?"}, call_id="late")).is_error
    assert (await AskHuman(None).call({"question": "Which?"}, call_id="c")).is_error


async def test_a_default_that_is_no_choice_is_refused() -> None:
    scope = ToolScope(agent=agent(), session_id=None, task_id=None, requests=None)
    host: Any = None
    with pytest.raises(InvalidArgument, match="choices"):
        async with AskHumanKind().open({"choices": ["a"], "default": "b"}, scope, host):
            pass


async def test_a_sub_task_is_handed_to_the_agent_that_is_named() -> None:
    requests = FakeRequests(done={"task_id": "t", "status": "completed", "output": {"text": "blue"}})
    painter, writer = agent(), agent()
    tools = RunAgent(
        {"painter": Member(painter, "painter", requests, None), "writer": Member(writer, "writer", requests, None)}
    )
    assert tools.spec.parameters["properties"]["agent"]["enum"] == ["painter", "writer"]
    with pytest.raises(RunWaits):
        await tools.call({"agent": "writer", "task": "Write."}, call_id="open")
    assert requests.asked[0].task_id == writer.id
    assert requests.asked[0].arguments == {"input": {"prompt": "Write."}}
    assert (await tools.call({"agent": "painter", "task": "Paint."}, call_id="done")).content == "blue"


async def test_what_a_sub_task_used_that_failed_counts() -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 7}
    requests = FakeRequests(done={"task_id": "t", "status": "failed", "output": None, "usage": usage})
    member = Member(agent(), "painter", requests, None)
    tools: list[tuple[Tool, dict[str, Any]]] = [(member, {}), (RunAgent({"painter": member}), {"agent": "painter"})]
    for tool, arguments in tools:
        result = await tool.call({**arguments, "task": "Paint."}, call_id="done")
        seen = Observation(
            call=PlannedCall(id="done", tool=tool.spec.name, arguments=arguments, how="native"),
            content=result.content,
            is_error=result.is_error,
            data=result.data,
            gives=tool.spec.gives,
        )
        assert (result.is_error, seen.spent) == (True, Spent(tool_calls=1, prompt_tokens=70, completion_tokens=7))
