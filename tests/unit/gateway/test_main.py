"""The process: how it begins, and how it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from gateway.main import listen
from gateway.settings import GatewaySettings
from hearth_runtime.identifiers import new_id
from servers.gateway import World, open_world, until


def start(port: int, **variables: str) -> subprocess.Popen[str]:
    """The gateway as a process, with no service behind it."""
    environment = {**os.environ, "HEARTH_PORT": str(port), **variables}
    command = [sys.executable, "-m", "gateway"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_port_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(port)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert f"127.0.0.1:{port}" in err
    assert "Address already in use" in err
    assert "HEARTH_PORT" in err


def test_a_host_that_is_not_ours_is_one_line_and_exit_code_1() -> None:
    process = start(0, HEARTH_HOST="no.such.host.invalid", HEARTH_LOGIN="required")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert "HEARTH_HOST" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_without_the_services_and_ends_by_a_signal(number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(port, HEARTH_RPC_TIMEOUT_SECONDS="0.1")
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

            async def alive() -> bool:
                try:
                    return (await http.get("/health/live")).status_code == 200
                except httpx.ConnectError:
                    return False

            await until(alive, seconds=30)
            assert (await http.get("/health")).status_code == 503
            assert (await http.get("/api/v1/agents")).status_code == 503
        process.send_signal(number)
        _, err = await asyncio.to_thread(process.communicate, timeout=10)
        assert process.returncode == 0
        assert err == ""
    finally:
        process.kill()


async def test_a_collector_that_does_not_answer_holds_up_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # It accepts, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as collector:
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
        process = start(
            port,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            HEARTH_GRACE_SECONDS="3",
            HEARTH_RPC_TIMEOUT_SECONDS="0.1",
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

                async def traced() -> bool:
                    try:
                        return (await http.get("/api/v1/agents")).status_code == 503
                    except httpx.ConnectError:
                        return False

                await until(traced, seconds=30)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.communicate, timeout=20)
            assert process.returncode == 0
            # Without a bound it is the exporter's own, 5 s and more.
            assert time.monotonic() - began < 4
        finally:
            process.kill()


async def test_requests_under_way_end_before_the_process_does() -> None:
    async with open_world() as world:
        await world.services.agent.stop()
        waiting = asyncio.create_task(world.http.get("/agents"))
        await until(lambda: is_waiting(world))
        world.stopping.set()
        await world.services.agent.start()
        assert (await waiting).status_code == 200


def test_answers_wait_for_no_acknowledgement() -> None:
    with listen(GatewaySettings(port=0)) as listener:
        # On connections of another protocol asyncio leaves Nagle's algorithm on.
        assert listener.proto == socket.IPPROTO_TCP


async def test_it_works_the_same_when_it_is_traced() -> None:
    async with open_world(otlp_endpoint="http://127.0.0.1:1") as world:
        task = await world.state.add_task()
        assert (await world.http.get(f"/tasks/{task.id}/status")).status_code == 200
        assert (await world.http.get(f"/logs/stream/{new_id()}")).json()["code"] == "task_not_found"
        async with world.stream(task.id) as stream, world.socket(f"/tasks/{task.id}") as client:
            event = await world.state.add_event(task)
            assert (await anext(stream)).id == event.stream_id
            assert event.stream_id in str(await client.recv())
            await world.services.log.stop()
            event = await world.state.add_event(task)
            await world.services.log.start()
            assert (await anext(stream)).id == event.stream_id
            while "heartbeat" in (frame := str(await client.recv())):
                pass
            assert event.stream_id in frame
        await until(lambda: world.state.open_streams == 0)


async def is_waiting(world: World) -> bool:
    """Whether a second connection answers, so that the first request is with the gateway by now."""
    return (await world.http.get("/health/live")).status_code == 200
