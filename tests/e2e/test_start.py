"""What a new user does: start, the walk, Ctrl-C, start again; and what goes wrong at a start."""

import os
import signal
import socket
import subprocess
import sys
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from system.client import MODEL, Client
from system.instance import Instance, free_port
from system.waiting import until

SECOND_START_SECONDS = 20.0  # a guard: how long it takes is measured, and not tested
STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
async def instance(short_folder: Path) -> AsyncIterator[Instance]:
    """An instance with nothing set but its home and port."""
    started = Instance(short_folder / "walk")
    await to_thread(started.start)
    yield started
    started.kill()


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def is_alive(process: psutil.Process, word: str = "") -> bool:
    """Whether it runs still, and has `word` on its command line."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and (not word or word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


async def test_the_walk(instance: Instance) -> None:
    client = Client(instance.url)
    agent = await client.create_agent(config={"system_prompt": "You are brief."})
    assert agent["model_name"] == MODEL
    task_id = await client.run(agent["id"])
    events = await client.events(task_id)
    kinds = [e.event for e in events]
    assert kinds[-1] == "end"
    assert events[-1].data["status"] == "completed"
    deltas = "".join(e.data["message"] for e in events if e.event == "delta")
    message = next(e.data["message"] for e in events if e.event == "message")
    assert deltas == message != ""
    assert kinds.index("delta") < kinds.index("message") < kinds.index("usage")
    ids = [e.id for e in events[:-1]]
    assert len(set(ids)) == len(ids)
    task = await client.task(task_id)
    assert task["status"] == "completed"
    assert task["output"]["text"] == message
    assert task["output"]["model"] == MODEL
    assert task["output"]["usage"]["completion_tokens"] > 0
    await client.http.aclose()


async def test_the_console_names_each_part_and_a_request_to_paste(instance: Instance) -> None:
    console = instance.console()
    for part in ("postgresql", "redis", "models", "storage", "inference", "log", "agent", "worker", "gateway"):
        assert f"  {part} " in console
    assert f"http://localhost:{instance.port}" in console
    paste = console[console.index("  H=localhost") : console.index("Ctrl-C ends it")]
    pasted = await to_thread(
        subprocess.run, ["bash", "-eu", "-c", paste], capture_output=True, text=True, timeout=60, check=False
    )
    assert pasted.returncode == 0, pasted.stderr
    assert "event: end" in pasted.stdout
    assert '"status":"completed"' in pasted.stdout


async def test_only_the_gateway_opens_a_port(instance: Instance) -> None:
    listening = {
        connection.laddr.port
        for process in descendants(instance.pid)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {instance.port}


async def test_a_part_that_is_killed_is_started_again(instance: Instance) -> None:
    def part(module: str) -> psutil.Process | None:
        return next((p for p in descendants(instance.pid) if is_alive(p, module)), None)

    client = Client(instance.url)
    for module in ("storage_service", "agent_service.worker"):
        killed = part(module)
        assert killed is not None
        killed.kill()
        until(lambda m=module, k=killed: (p := part(m)) is not None and p.pid != k.pid, what=f"another {module}")  # type: ignore[misc]
    agent = await client.create_agent()
    assert (await client.wait(await client.run(agent["id"])))["status"] == "completed"
    await client.http.aclose()


async def test_ctrl_c_ends_all_of_it_and_data_is_there_at_the_next_start(instance: Instance) -> None:
    client = Client(instance.url)
    agent = await client.create_agent(name="kept")
    task_id = await client.run(agent["id"])
    await client.wait(task_id)
    before = await client.events(task_id, kinds="status,log,step,message,usage")

    processes = descendants(instance.pid)
    assert len(processes) >= 8
    took = await to_thread(instance.stop)
    assert took < STOP_SECONDS
    assert [p for p in processes if is_alive(p)] == []

    await to_thread(instance.start)
    assert instance.start_seconds < SECOND_START_SECONDS
    assert (await client.http.get(f"/agents/{agent['id']}")).json()["name"] == "kept"
    assert (await client.task(task_id))["status"] == "completed"
    assert await client.events(task_id, kinds="status,log,step,message,usage") == before
    await client.http.aclose()


async def test_two_instances_live_side_by_side(instance: Instance, short_folder: Path) -> None:
    other = Instance(short_folder / "other")
    await to_thread(other.start)
    here, there = Client(instance.url), Client(other.url)
    agent = await there.create_agent(name="elsewhere")
    assert (await here.http.get(f"/agents/{agent['id']}")).status_code == 404
    other.kill()
    await here.http.aclose()
    await there.http.aclose()


async def test_a_killed_supervisor_leaves_no_process_and_no_lock(short_folder: Path) -> None:
    killed = Instance(short_folder / "killed")
    await to_thread(killed.start)
    processes = descendants(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.kill()
    until(lambda: not [p for p in processes if is_alive(p)], what="their end")
    again = Instance(killed.home)
    await to_thread(again.start)
    again.kill()


def start_and_fail(**env: str) -> str:
    """Its one line of complaint."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "OLLAMA_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "hearth_local"],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_a_port_in_use_is_one_line(short_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = start_and_fail(HEARTH_HOME=str(short_folder / "port"), HEARTH_PORT=str(port))
    assert f"Port {port} cannot be used" in line
    assert "HEARTH_PORT=" in line


def test_an_unwritable_home_is_one_line(short_folder: Path) -> None:
    blocked = short_folder / "file"
    blocked.write_text("")
    line = start_and_fail(HEARTH_HOME=str(blocked / "home"), HEARTH_PORT=str(free_port()))
    assert "Cannot write to" in line
    assert "HEARTH_HOME=" in line


def test_a_home_in_use_is_one_line(instance: Instance) -> None:
    line = start_and_fail(HEARTH_HOME=str(instance.home), HEARTH_PORT=str(free_port()))
    assert f"process {instance.pid}" in line


def test_a_port_that_is_none_is_one_line(short_folder: Path) -> None:
    assert "must be a whole number" in start_and_fail(HEARTH_HOME=str(short_folder / "x"), HEARTH_PORT="http")


async def test_a_home_with_a_long_path_works(short_folder: Path) -> None:
    long = Instance(short_folder / ("long-" * 20))
    await to_thread(long.start)
    client = Client(long.url)
    await client.create_agent()
    await client.http.aclose()
    await to_thread(long.stop)
