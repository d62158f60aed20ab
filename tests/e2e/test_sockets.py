"""The two WebSockets."""

import asyncio
import json
import uuid
from typing import Any

import pytest
import websockets
from system.client import Client
from system.instance import Instance

SHORT = {"max_tokens": 6, "temperature": 0}


def socket_url(hearth: Instance, path: str) -> str:
    return f"ws://127.0.0.1:{hearth.port}/api/v1{path}"


async def frames(socket: websockets.ClientConnection) -> list[dict[str, Any]]:
    """All until it is closed, however."""
    seen = []
    try:
        while True:
            seen.append(json.loads(await socket.recv()))
    except websockets.ConnectionClosed:
        return seen


async def matching(socket: websockets.ClientConnection, task_id: str) -> list[dict[str, Any]]:
    """The events up to the one that says that the task completed."""
    seen = []
    async with asyncio.timeout(30):
        while True:
            frame = json.loads(await socket.recv())
            if frame.get("kind") in (None, "heartbeat"):
                continue
            seen.append(frame)
            if frame["task_id"] == task_id and frame["context"].get("status") == "completed":
                return seen


async def test_every_event_of_a_task_then_closed_with_1000(hearth: Instance, client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    task_id = await client.run(agent["id"])
    async with websockets.connect(socket_url(hearth, f"/ws/tasks/{task_id}")) as socket:
        seen = await frames(socket)
        assert socket.close_code == 1000
    assert seen[-1]["kind"] == "end"
    assert seen[-1]["status"] == "completed"
    streamed = await client.events(task_id)
    assert [f["id"] for f in seen if f["kind"] not in ("delta", "end", "heartbeat")] == [
        e.id for e in streamed if e.event not in ("delta", "end")
    ]
    assert any(f["kind"] == "delta" for f in seen)
    middle = next(f["id"] for f in seen if f["kind"] == "step")
    async with websockets.connect(socket_url(hearth, f"/ws/tasks/{task_id}?after={middle}")) as socket:
        rest = await frames(socket)
    assert [f["id"] for f in rest if f["kind"] not in ("delta", "end")] == [
        f["id"]
        for f in seen[seen.index(next(f for f in seen if f.get("id") == middle)) + 1 :]
        if f["kind"] not in ("delta", "end")
    ]


async def test_a_subscription_filters_and_changes(hearth: Instance, client: Client) -> None:
    agents = [await client.create_agent(config=SHORT) for _ in range(2)]
    async with websockets.connect(socket_url(hearth, "/ws/logs")) as socket:
        await socket.send(json.dumps({"subscribe": {"agent_ids": [agents[0]["id"]]}}))
        assert "subscribed" in json.loads(await socket.recv())
        first = await client.run(agents[0]["id"])
        await client.wait(await client.run(agents[1]["id"]))
        assert {f["agent_id"] for f in await matching(socket, first)} == {agents[0]["id"]}

        await socket.send(json.dumps({"subscribe": {"agent_ids": [agents[1]["id"]]}}))
        while "subscribed" not in json.loads(await socket.recv()):
            pass
        second = await client.run(agents[1]["id"])
        await client.wait(await client.run(agents[0]["id"]))
        assert {f["agent_id"] for f in await matching(socket, second)} == {agents[1]["id"]}


async def test_a_named_subscription_goes_on_where_it_was(hearth: Instance, client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    name = f"dashboard-{uuid.uuid4().hex}"
    subscribe = json.dumps({"subscribe": {"agent_ids": [agent["id"]]}, "name": name})
    async with websockets.connect(socket_url(hearth, "/ws/logs")) as socket:
        await socket.send(subscribe)
        assert "subscribed" in json.loads(await socket.recv())
        first = await client.run(agent["id"])
        seen = await matching(socket, first)
    missed = await client.run(agent["id"])
    await client.wait(missed)
    async with websockets.connect(socket_url(hearth, "/ws/logs")) as socket:
        await socket.send(json.dumps({"subscribe": {}, "name": name}))
        resumed = await matching(socket, missed)
    assert {f["task_id"] for f in resumed} == {missed}
    assert not {f["id"] for f in resumed} & {f["id"] for f in seen}
    expected = [e.id for e in await client.events(missed) if e.event not in ("delta", "end")]
    assert [f["id"] for f in resumed if f["kind"] != "delta"] == expected


@pytest.mark.parametrize(
    "frame", ["{", "[]", '{"subscribe": {"task_id": ["x"]}}', '{"subscribe": {"levels": ["loud"]}}', "{}"]
)
async def test_rubbish_is_answered_and_closed(hearth: Instance, frame: str) -> None:
    async with websockets.connect(socket_url(hearth, "/ws/logs")) as socket:
        await socket.send(frame)
        async with asyncio.timeout(5):
            answers = await frames(socket)
        assert "error" in answers[0]
        assert answers[0]["error"]["status"] == 422
        assert socket.close_code is not None
        assert 4000 <= socket.close_code < 5000


async def test_a_socket_of_no_task_says_so(hearth: Instance) -> None:
    url = socket_url(hearth, "/ws/tasks/01900000-0000-7000-8000-000000000000")
    async with websockets.connect(url) as socket, asyncio.timeout(5):
        await frames(socket)
        assert socket.close_code == 4404
