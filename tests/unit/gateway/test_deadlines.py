"""A request has one deadline, which all calls that it causes share."""

import asyncio
import json
import re
import time

import pytest
from gateway.route import WAIT_PREFERENCE
from hearth_runtime.identifiers import new_id
from servers.gateway import World, open_world


async def test_the_services_are_given_the_deadline_of_the_request(world: World) -> None:
    answer = await world.http.get(f"/agents/{new_id()}")
    assert answer.status_code == 404
    left = world.state.time_remaining["GetAgent"]
    assert left is not None
    assert 0 < left <= world.settings.rpc_timeout_seconds


async def test_a_client_may_have_less_time_and_not_more(world: World) -> None:
    for value, at_most in (("wait=1", 1.0), ('respond-async, Wait="2"; x', 2.0), ("wait=1000", 5.0), ("wait=0", 5.0)):
        await world.http.get(f"/agents/{new_id()}", headers={"Prefer": value})
        left = world.state.time_remaining["GetAgent"]
        assert left is not None
        # gRPC rounds up to a hundredth of a second.
        assert at_most * 0.5 < left < at_most + 0.02, value


@pytest.mark.parametrize(
    "value", ["", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "await=1", "wait=1 2", "x=wait=1"]
)
def test_a_preference_that_makes_no_sense_is_none(value: str) -> None:
    assert WAIT_PREFERENCE.search(value) is None


async def test_all_calls_of_a_request_share_one_deadline() -> None:
    async with open_world(rpc_timeout_seconds=1.5) as world:
        task = await world.state.add_task()
        # The events answer, the task does not.
        world.state.delays["ListEvents"] = 0.8
        world.state.delays["GetTask"] = 60
        started = time.monotonic()
        answer = await world.http.get(f"/tasks/{task.id}/logs")
        assert answer.status_code == 503
        assert time.monotonic() - started < 10
        left = world.state.time_remaining["GetTask"]
        assert left is not None
        assert left < 0.75


async def test_a_stream_goes_on_after_the_deadline_of_the_request_that_opened_it() -> None:
    async with open_world(rpc_timeout_seconds=0.5) as world:
        task = await world.state.add_task()
        async with world.stream(task.id) as stream:
            assert world.state.time_remaining["StreamEvents"] is None
            await asyncio.sleep(0.6)
            event = await world.state.add_event(task)
            assert (await anext(stream)).id == event.stream_id
            # Also what it asks for later, as when the log service restarts.
            await world.services.log.stop()
            event = await world.state.add_event(task)
            await world.services.log.start()
            assert (await anext(stream)).id == event.stream_id
            assert world.state.time_remaining["StreamEvents"] is None


async def test_a_deadline_is_not_inherited_by_what_the_same_connection_carries_later() -> None:
    async with open_world(rpc_timeout_seconds=0.5) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)

        async def answers(request: str) -> str:
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head)
            return head + (await reader.readexactly(int(length[1]))).decode() if length else head

        # So large that uvicorn stops reading, and reads on in the context of this request.
        body = json.dumps({"name": "n", "model_name": "m"}).ljust(500_000)
        create = "POST /api/v1/agents/create HTTP/1.1\r\nContent-Type: application/json"
        assert " 201 " in await answers(f"{create}\r\nContent-Length: {len(body)}\r\nHost: localhost\r\n\r\n{body}")
        await asyncio.sleep(0.6)
        for path in ("agents", "health"):
            assert " 200 " in await answers(f"GET /api/v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        assert " 101 " in await answers(
            f"GET /api/v1/ws/logs HTTP/1.1\r\n{upgrade}\r\n{key}\r\nHost: localhost\r\n\r\n"
        )
        message = b'{"name":"later"}'
        writer.write(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
        async with asyncio.timeout(10):
            assert b'"subscribed"' in await reader.read(1000)
        writer.close()


async def test_a_stream_that_cannot_be_opened_ends_in_time() -> None:
    async with open_world(rpc_timeout_seconds=20) as world:
        await world.services.log.stop()
        answer = await world.http.get(f"/logs/stream/{new_id()}", headers={"Prefer": "wait=1"}, timeout=10)
        assert answer.status_code == 503


async def test_a_run_without_a_key_can_be_repeated_by_the_gateway(world: World) -> None:
    agent = await world.state.add_agent()
    known = len(world.state.keys)
    body = {"agent_id": agent.id, "input": {"prompt": "x"}}
    tasks = {(await world.http.post("/agents/run", json=body)).json()["task_id"] for _ in range(2)}
    assert len(tasks) == 2, "two requests without a key are two runs"
    assert len(world.state.keys) == known + 2


async def test_a_restart_of_the_agent_service_under_load_is_not_seen() -> None:
    async with open_world() as world:
        agent = await world.state.add_agent()
        stopping = asyncio.Event()
        statuses: list[int] = []
        accepted: list[str] = []

        async def read() -> None:
            while not stopping.is_set():
                statuses.append((await world.http.get(f"/agents/{agent.id}")).status_code)

        async def run() -> None:
            while not stopping.is_set():
                answer = await world.http.post("/agents/run", json={"agent_id": agent.id, "input": {"prompt": "x"}})
                statuses.append(answer.status_code)
                accepted.append(answer.json()["task_id"])

        users = [asyncio.create_task(use()) for use in (*[read] * 10, *[run] * 10)]
        for _ in range(4):
            before = len(statuses)
            while len(statuses) < before + 60:
                await world.http.get(f"/agents/{agent.id}")
            await world.services.agent.stop()
            await world.services.agent.start()
        stopping.set()
        await asyncio.gather(*users)
        assert set(statuses) == {200, 202}
        assert len(accepted) == len(set(accepted)) == len(world.state.tasks)
