"""Answering what a run waits for, and the tools that a client declares."""

import json
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2
from servers.gateway import World

TOOL = {
    "type": "client",
    "name": "look_up",
    "description": "Looks something up.",
    "parameters": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}},
    "timeout_seconds": 60,
}


async def test_a_waiting_task_shows_what_it_waits_for(world: World) -> None:
    parent = await world.state.add_task()
    task = await world.state.add_task(status=task_pb2.Task.STATUS_WAITING, parent_task_id=parent.id)
    pending = task.pending.add(
        id="act:1:0", kind=task_pb2.Pending.KIND_TOOL_CALL, name="look_up", arguments='{"a":"x"}'
    )
    pending.expires_at.FromJsonString("2026-01-02T03:04:05Z")
    shown = (await world.http.get(f"/tasks/{task.id}/status")).json()
    assert shown["status"] == "waiting"
    assert shown["parent_task_id"] == parent.id
    assert shown["pending"] == [
        {
            "id": "act:1:0",
            "kind": "tool_call",
            "name": "look_up",
            "arguments": {"a": "x"},
            "expires_at": "2026-01-02T03:04:05Z",
            "task_id": None,
        }
    ]
    page = (await world.http.get("/tasks", params={"parent_task_id": parent.id, "status": "waiting"})).json()
    assert [item["id"] for item in page["items"]] == [task.id]


async def test_answers_are_passed_on_as_they_were_given(world: World) -> None:
    task = await world.state.add_task(status=task_pb2.Task.STATUS_WAITING)
    results: list[dict[str, Any]] = [
        {"id": "a", "output": None},
        {"id": "b", "output": {"n": [1, "\u00e9"]}},
        {"id": "c", "decision": "approve", "arguments": {"path": "x"}},
        {"id": "d", "decision": "reject", "reason": "No."},
    ]
    answer = await world.http.post(f"/tasks/{task.id}/resume", json={"results": results})
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "pending"
    assert answer.headers["Location"] == f"/api/v1/tasks/{task.id}/status"
    (request,) = [request for request in world.state.answers if request.id == task.id]
    assert [{"id": a.id, **json.loads(a.answer)} for a in request.answers] == results
    again = await world.http.post(f"/tasks/{task.id}/resume", json={"results": results})
    assert (again.status_code, again.json()["code"]) == (409, "task_not_waiting")


@pytest.mark.parametrize(
    ("results", "field"),
    [
        ([], "results"),
        ([{"id": "a"}], "results[0]"),
        ([{"id": "a", "output": 1, "decision": "approve"}], "results[0]"),
        ([{"id": "a", "output": 1, "arguments": {}}], "results[0]"),
        ([{"id": "a", "decision": "approve", "reason": "x"}], "results[0]"),
        ([{"id": "a", "decision": "perhaps"}], "results[0].decision"),
        ([{"id": "a", "output": 1}, {"id": "a", "output": 2}], "body"),
        ([{"id": "a", "output": "\ud800"}], "results[0].output"),
    ],
)
async def test_answers_that_are_none_name_the_field(world: World, results: Any, field: str) -> None:
    task = await world.state.add_task(status=task_pb2.Task.STATUS_WAITING)
    body = json.dumps({"results": results})
    answer = await world.http.post(
        f"/tasks/{task.id}/resume", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert task.id not in [request.id for request in world.state.answers]


async def test_an_agents_client_tools_come_back_as_they_were(world: World) -> None:
    other = await world.state.add_agent()
    body = {"name": "n", "model_name": "m", "config": {"tools": [TOOL], "agents": [other.id]}}
    created = await world.http.post("/agents/create", json=body)
    assert created.status_code == 201, created.text
    assert created.json()["config"] == body["config"]
    stored = world.state.agents[created.json()["id"]].config.tools[0]
    # In the order in which the client wrote them, since models fill them in their order.
    assert list(json.loads(stored.parameters)["properties"]) == ["b", "a"]


async def test_a_runs_client_tools_are_passed_on(world: World) -> None:
    agent = await world.state.add_agent()
    answer = await world.http.post(
        "/agents/run", json={"agent_id": agent.id, "input": {"prompt": "x"}, "tools": [TOOL]}
    )
    assert answer.status_code == 202, answer.text
    (tool,) = world.state.created[-1].tools
    assert (tool.name, tool.timeout_seconds) == ("look_up", 60)


@pytest.mark.parametrize(
    ("tools", "field"),
    [
        ([{**TOOL, "type": "server"}], "tools[0].type"),
        ([{**TOOL, "name": "a b"}], "tools[0].name"),
        ([{**TOOL, "parameters": {"type": "string"}}], "tools[0].parameters"),
        ([{**TOOL, "parameters": {"type": "object", "properties": 1}}], "tools[0].parameters"),
        ([TOOL, TOOL], "tools"),
    ],
)
async def test_client_tools_that_cannot_be_called_name_the_field(world: World, tools: Any, field: str) -> None:
    agent = await world.state.add_agent()
    answer = await world.http.post("/agents/run", json={"agent_id": agent.id, "input": {"prompt": "x"}, "tools": tools})
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
