"""Tools of agents: given, read, replaced, tried and taken away."""

import asyncio
import secrets
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system.client import Client
from system.instance import free_port
from system.traces import TraceReceiver
from system.waiting import until

SERVERS = Path(__file__).parents[1] / "servers"
NOWHERE = "01900000-0000-7000-8000-000000000000"
FIELDS = {
    "id", "agent_id", "name", "tool_name", "tool_config", "is_enabled", "description", "needs_approval",
    "timeout_seconds", "result_characters", "created_at", "updated_at",
}  # fmt: skip


async def test_a_calculator_is_given_tried_replaced_and_taken_away(client: Client) -> None:
    agent = await client.create_agent()
    tools = f"/agents/{agent['id']}/tools"
    made = await client.http.post(tools, json={"tool_name": "calculator", "name": "sums", "timeout_seconds": 10})
    assert made.status_code == 201, made.text
    tool = made.json()
    assert set(tool) == FIELDS
    assert uuid.UUID(tool["id"]).version == 7
    assert made.headers["location"] == f"/api/v1{tools}/{tool['id']}"
    assert (await client.http.get(f"{tools}/{tool['id']}")).json() == tool
    assert await client.all_pages(tools) == [tool]
    assert (await client.http.get(f"/agents/{agent['id']}")).json() == agent

    check = (await client.http.get(f"{tools}/{tool['id']}/check")).json()
    assert (check["is_healthy"], [t["name"] for t in check["tools"]]) == (True, ["sums"])
    assert check["tools"][0]["timeout_seconds"] == 10
    (argument,) = check["tools"][0]["parameters"]["properties"]
    tried = await client.http.post("/tools/sums/try", json={"agent_id": agent["id"], "arguments": {argument: "6 * 7"}})
    assert tried.status_code == 200, tried.text
    assert (tried.json()["tool"], tried.json()["is_error"]) == ("sums", False)
    assert "42" in tried.json()["content"]

    again = await client.http.post(tools, json={"tool_name": "calculator", "name": "sums"})
    assert (again.status_code, again.json()["code"]) == (409, "tool_name_taken")
    put = await client.http.put(f"{tools}/{tool['id']}", json={"tool_name": "calculator", "is_enabled": False})
    assert put.status_code == 200, put.text
    assert (put.json()["name"], put.json()["is_enabled"], put.json()["timeout_seconds"]) == ("calculator", False, None)
    assert put.json()["updated_at"] > tool["updated_at"]

    assert (await client.http.delete(f"/agents/{agent['id']}")).status_code == 204
    assert await client.all_pages(tools) == [put.json()]
    assert (await client.http.delete(f"{tools}/{tool['id']}")).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await client.http.request(method, f"{tools}/{tool['id']}")
        assert (gone.status_code, gone.json()["code"]) == (404, "tool_not_found")


async def test_a_kind_is_tried_before_an_agent_has_it(client: Client) -> None:
    kinds = {kind["name"]: kind for kind in (await client.http.get("/tools")).json()["items"]}
    assert {"calculator", "current_time"} <= set(kinds)
    assert all(kind["description"] and kind["config_schema"]["type"] == "object" for kind in kinds.values())
    described = (await client.http.post("/tools/calculator/try", json={})).json()
    assert described["content"] is None
    (tool,) = described["tools"]
    (argument,) = tool["parameters"]["properties"]
    result = (await client.http.post("/tools/calculator/try", json={"arguments": {argument: "2 ^ 10"}})).json()
    assert "1024" in result["content"]
    wrong = (await client.http.post("/tools/calculator/try", json={"arguments": {argument: 5}})).json()
    assert wrong["is_error"] is True
    assert f"{argument}: 5 is not of type" in wrong["content"]
    missing = await client.http.post("/tools/abacus/try", json={})
    assert (missing.status_code, missing.json()["code"]) == (404, "tool_not_found")
    assert "calculator" in missing.json()["detail"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, "invalid_request", "tool_name"),
        ({"tool_name": "abacus"}, "tool_kind_not_found", "There are: "),
        ({"tool_name": "calculator", "tool_config": {"no": 1}}, "invalid_argument", "'no' was unexpected"),
        ({"tool_name": "calculator", "name": "two words"}, "invalid_request", "pattern"),
        ({"tool_name": "calculator", "timeout_seconds": 0}, "invalid_request", "greater than 0"),
    ],
)
async def test_what_is_wrong_with_a_tool_is_named(client: Client, body: dict[str, Any], code: str, words: str) -> None:
    agent = await client.create_agent()
    answer = await client.http.post(f"/agents/{agent['id']}/tools", json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == code
    assert words in answer.text


async def test_a_tool_needs_an_agent(client: Client) -> None:
    for call in (
        client.http.post(f"/agents/{NOWHERE}/tools", json={"tool_name": "calculator"}),
        client.http.get(f"/agents/{NOWHERE}/tools"),
    ):
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")


@pytest.fixture
def mcp_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MCP server's URL and process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVERS / "mcp_server.py"), "--port", str(port)])

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, what="the MCP server")
    yield f"http://127.0.0.1:{port}/mcp", process
    process.kill()
    process.wait()


async def test_an_mcp_server_is_looked_at_called_and_checked(
    client: Client, mcp_server: tuple[str, subprocess.Popen[bytes]]
) -> None:
    url, process = mcp_server
    secret = "Bearer sk-0123456789"
    config = {"url": url, "private": ["127.0.0.1"], "headers": {"Authorization": secret}, "required": False}
    listed = (await client.http.post("/tools/mcp/try", json={"tool_config": config})).json()
    assert {"add", "header"} <= {tool["name"] for tool in listed["tools"]}
    (add,) = (tool for tool in listed["tools"] if tool["name"] == "add")
    assert (set(add["parameters"]["properties"]), add["repeatable"]) == ({"a", "b"}, True)

    agent = await client.create_agent()
    made = await client.http.post(
        f"/agents/{agent['id']}/tools", json={"tool_name": "mcp", "name": "notes", "tool_config": config}
    )
    assert made.status_code == 201, made.text
    check = f"/agents/{agent['id']}/tools/{made.json()['id']}/check"
    found = (await client.http.get(check)).json()
    assert (found["is_healthy"], found["detail"]) == (True, "")
    assert {"notes_add", "notes_header"} <= {tool["name"] for tool in found["tools"]}

    async def call(tool: str, **arguments: Any) -> Any:
        body = {"agent_id": agent["id"], "tool": tool, "arguments": arguments}
        return (await client.http.post("/tools/notes/try", json=body)).json()

    assert (await call("notes_add", a=40, b=2))["content"] == "42"
    assert (await call("notes_header"))["content"] == "********"
    wrong = await call("notes_add", a="x")
    assert wrong["is_error"]
    assert "which was not called" in wrong["content"]

    process.kill()
    await asyncio.to_thread(process.wait)
    away = (await client.http.get(check)).json()
    assert (away["is_healthy"], away["tools"]) == (False, [])
    assert away["detail"]


async def test_a_call_by_hand_is_in_the_trace_and_the_metrics(client: Client, traces: TraceReceiver) -> None:
    trace_id = secrets.token_hex(16)
    await client.http.post(
        "/tools/calculator/try",
        json={"arguments": {"expression": "1 + 1"}},
        headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
    )

    def called() -> bool:
        return ("agent", "execute_tool calculator") in {(s.service, s.name) for s in traces.trace(trace_id)}

    await asyncio.to_thread(until, called, seconds=15, what="the span of the call")
    metrics = (await client.http.get("/metrics")).text
    assert 'hearth_tool_calls_total{outcome="ok",service="agent",tool="calculator"}' in metrics
