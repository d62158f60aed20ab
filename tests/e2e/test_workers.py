"""Two workers share the work."""

import asyncio
import time
from collections import Counter

import psutil
from fakes.ollama import Behaviour, FakeOllama
from system.client import Client
from system.instance import Instance


async def test_two_workers_share_twenty_tasks(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("steady:1b", Behaviour(seconds_before_first=0.3))
    agent = await client.create_agent(model_name="steady:1b")
    ids = [await client.run(agent["id"], f"{n}") for n in range(20)]
    for task_id in ids:
        assert (await client.wait(task_id))["status"] == "completed"
    workers: Counter[str] = Counter()
    for task_id in ids:
        started = [
            e.data["context"]
            for e in await client.events(task_id, kinds="status")
            if e.data.get("message") == "running"
        ]
        assert len(started) == 1
        workers[started[0]["worker"]] += 1
    assert len(workers) == 2
    assert min(workers.values()) >= 4
    prompts = Counter(r.body["messages"][-1]["content"] for r in fake_ollama.requests["steady:1b"])
    assert set(prompts.values()) == {1}
    assert len(prompts) == 20


def worker_of(hearth: Instance, worker_id: str) -> psutil.Process:
    """The process that a status event names: its id ends in `-PID-suffix`."""
    return psutil.Process(int(worker_id.rsplit("-", 2)[1]))


async def run_until_delta(client: Client, model: str) -> tuple[str, str]:
    """A run that has begun to answer; its task and its worker."""
    agent = await client.create_agent(model_name=model)
    task_id = await client.run(agent["id"])
    worker = ""
    async with client.stream(task_id) as stream:
        async for event in stream:
            if event.event == "status":
                worker = event.data["context"].get("worker", worker)
            if event.event == "delta":
                break
    return task_id, worker


async def test_a_killed_workers_run_goes_on_elsewhere(
    hearth: Instance, client: Client, fake_ollama: FakeOllama
) -> None:
    fake_ollama.behave("long:1b", Behaviour(stall_after=1), Behaviour(pieces=("done",)))
    task_id, worker = await run_until_delta(client, "long:1b")
    watching = asyncio.create_task(client.events(task_id))
    worker_of(hearth, worker).kill()
    killed = time.monotonic()
    task = await client.wait(task_id, seconds=20)
    assert time.monotonic() - killed < 20
    assert (task["status"], task["attempt"], task["retry_count"]) == ("completed", 2, 1)
    assert task["output"]["text"] == "done"
    events = await watching
    assert events[-1].event == "end"
    assert [e.data["attempt"] for e in events if e.data.get("message") == "running"] == [1, 2]


async def test_a_worker_that_is_told_to_stop_hands_its_run_over(
    hearth: Instance, client: Client, fake_ollama: FakeOllama
) -> None:
    fake_ollama.behave("handed:1b", Behaviour(stall_after=1), Behaviour(pieces=("done",)))
    task_id, worker = await run_until_delta(client, "handed:1b")
    worker_of(hearth, worker).terminate()
    stopped = time.monotonic()
    task = await client.wait(task_id)
    assert time.monotonic() - stopped < 3
    assert (task["status"], task["attempt"], task["retry_count"]) == ("completed", 2, 0)
    assert fake_ollama.requests["handed:1b"][0].disconnected
