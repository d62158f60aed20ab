"""Runs that wait for people, clients and sub-tasks, with one worker that has one place."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama
from system.client import Client
from system.instance import Instance
from system.waiting import eventually

WORKFLOWS = Path(__file__).parents[1] / "workflows"
STEPS = ("first", "second", "third", "fourth")
TOOL = {
    "type": "client",
    "name": "look_up_order",
    "description": "Looks up an order by its number.",
    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
}


@pytest.fixture(scope="module")
async def narrow(fake_ollama: FakeOllama) -> AsyncIterator[Instance]:
    """An instance with one worker of one place, and the workflows of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-e2e-"))
    notes = folder / "notes"
    notes.touch()
    env = {
        "OLLAMA_URL": fake_ollama.url,
        "HEARTH_WORKERS": "1",
        "HEARTH_WORKER_CONCURRENCY": "1",
        "PYTHONPATH": str(WORKFLOWS),
        "HEARTH_TEST_NOTES": str(notes),
    }
    instance = Instance(folder / "home", env=env)
    await asyncio.to_thread(instance.start)
    yield instance
    instance.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def one(narrow: Instance) -> AsyncIterator[Client]:
    """A client of it."""
    opened = Client(narrow.url)
    yield opened
    await opened.http.aclose()


async def resume(client: Client, task_id: str, **outputs: str) -> None:
    results = [{"id": call_id.replace("_", ":"), "output": output} for call_id, output in outputs.items()]
    answer = await client.http.post(f"/tasks/{task_id}/resume", json={"results": results})
    assert answer.status_code == 202, answer.text


async def until_asked(client: Client, task_id: str, call_id: str) -> dict[str, Any]:
    """The task, once it waits for this."""

    async def asked() -> dict[str, Any]:
        task = await client.task(task_id)
        return task if call_id in [pending["id"] for pending in task["pending"]] else {}

    return await eventually(asked, what=call_id)


async def test_three_levels_of_sub_tasks_share_one_place(one: Client) -> None:
    agent = await one.create_agent(config={"workflow": "test.nest"})
    task_id = await one.run(agent["id"], "3")
    task = await one.wait(task_id, seconds=60)
    assert task["status"] == "completed", task
    assert task["output"]["text"] == "(((..)(..))((..)(..)))"
    everything = await one.all_pages("/tasks", agent_id=agent["id"])
    assert len(everything) == 15
    assert {t["status"] for t in everything} == {"completed"}
    children = await one.all_pages("/tasks", parent_task_id=task_id)
    assert [child["parent_task_id"] for child in children] == [task_id] * 2
    # The top's stream tells how all of them went, and ends with the top's own end.
    events = await one.events(task_id)
    rolled_up = [e.data["context"] for e in events if e.event == "sub_task"]
    ended = [
        c["origin"]["task_id"] for c in rolled_up if c["kind"] == "status" and c["context"]["status"] == "completed"
    ]
    assert sorted(ended) == sorted(t["id"] for t in everything if t["id"] != task_id)
    assert [e.data["context"]["status"] for e in events if e.event == "status"] == [
        "running",
        "waiting",
        "running",
        "completed",
    ]


async def test_a_wait_outlives_a_restart_of_everything(narrow: Instance, one: Client) -> None:
    agent = await one.create_agent(config={"workflow": "test.asks"})
    task_id = await one.run(agent["id"])
    await until_asked(one, task_id, "first:ask")
    await resume(one, task_id, first_ask="1")
    waiting = await until_asked(one, task_id, "second:ask")
    await asyncio.to_thread(narrow.stop)
    await asyncio.to_thread(narrow.start)
    assert await one.task(task_id) == waiting
    await resume(one, task_id, second_ask="2")
    for number, name in enumerate(STEPS[2:], 3):
        await until_asked(one, task_id, f"{name}:ask")
        await resume(one, task_id, **{f"{name}_ask": str(number)})
    task = await one.wait(task_id)
    assert (task["status"], task["output"]["text"]) == ("completed", "1\n2\n3\n4")
    assert (task["attempt"], task["retry_count"]) == (5, 0)
    events = await one.events(task_id)
    told = [e.data["context"].get("pending") for e in events if e.event == "status" and "pending" in e.data["context"]]
    assert [pending[0]["id"] for pending in told] == [f"{name}:ask" for name in STEPS]
    assert events[-1].event == "end"


async def test_a_client_tool_is_called_by_a_run_and_answered_by_its_client(
    one: Client, fake_ollama: FakeOllama
) -> None:
    call = {"function": {"name": "look_up_order", "arguments": {"number": "4711"}}}
    fake_ollama.behave(
        "caller:1b",
        Behaviour(pieces=(), tool_calls=(call,), capabilities=("completion", "tools")),
        Behaviour(pieces=("It has shipped.",), capabilities=("completion", "tools")),
    )
    agent = await one.create_agent(model_name="caller:1b", config={"workflow": "tools"})
    task_id = await one.run(agent["id"], "Where is order 4711?", tools=[TOOL])
    async with one.stream(task_id) as stream:
        async for event in stream:
            if event.event == "status" and event.data["context"]["status"] == "waiting":
                pending = event.data["context"]["pending"]
                break
    assert [(p["kind"], p["name"], p["arguments"]) for p in pending] == [
        ("tool_call", "look_up_order", {"number": "4711"})
    ]
    shown = await one.task(task_id)
    assert shown["status"] == "waiting"
    assert [p["id"] for p in shown["pending"]] == [pending[0]["id"]]
    results = [{"id": pending[0]["id"], "output": {"status": "shipped"}}]
    for _ in range(2):
        answer = await one.http.post(f"/tasks/{task_id}/resume", json={"results": results})
        assert answer.status_code == 202, answer.text
    task = await one.wait(task_id)
    assert (task["status"], task["output"]["text"]) == ("completed", "It has shipped.")
    asked = fake_ollama.requests["caller:1b"][-1].body["messages"]
    assert any("shipped" in str(message) for message in asked)
    late = await one.http.post(f"/tasks/{task_id}/resume", json={"results": [{**results[0], "output": "lost"}]})
    assert (late.status_code, late.json()["code"]) == (409, "already_answered")


async def test_a_person_answers_one_of_the_choices(one: Client, fake_ollama: FakeOllama) -> None:
    call = {"function": {"name": "ask_human", "arguments": {"question": "Which colour?"}}}
    fake_ollama.behave(
        "asker:1b",
        Behaviour(pieces=(), tool_calls=(call,), capabilities=("completion", "tools")),
        Behaviour(pieces=("It will be blue.",), capabilities=("completion", "tools")),
    )
    agent = await one.create_agent(model_name="asker:1b", config={"workflow": "tools"})
    row = {"tool_name": "ask_human", "tool_config": {"choices": ["red", "blue"]}}
    added = await one.http.post(f"/agents/{agent['id']}/tools", json=row)
    assert added.status_code == 201, added.text
    task_id = await one.run(agent["id"], "Paint the door.")
    (pending,) = (await one.wait(task_id, status=("waiting",)))["pending"]
    assert (pending["kind"], pending["name"]) == ("question", "ask_human")
    assert pending["arguments"] == {"question": "Which colour?", "choices": ["red", "blue"]}
    resume_path = f"/tasks/{task_id}/resume"
    wrong = await one.http.post(resume_path, json={"results": [{"id": pending["id"], "output": "green"}]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "results[0].output")
    right = await one.http.post(resume_path, json={"results": [{"id": pending["id"], "output": "blue"}]})
    assert right.status_code == 202, right.text
    task = await one.wait(task_id)
    assert (task["status"], task["output"]["text"]) == ("completed", "It will be blue.")
    asked = fake_ollama.requests["asker:1b"][-1].body["messages"]
    assert any("blue" in str(message) for message in asked)


async def test_a_cancel_ends_a_wait_at_once(one: Client) -> None:
    asker = await one.create_agent(config={"workflow": "test.asks"})
    task_id = await one.run(asker["id"])
    await one.wait(task_id, status=("waiting",))
    cancelled = await one.http.delete(f"/tasks/{task_id}")
    assert cancelled.json()["status"] == "cancelled"
    events = await one.events(task_id)
    assert events[-1].data["status"] == "cancelled"
    answer = await one.http.post(f"/tasks/{task_id}/resume", json={"results": [{"id": "first:ask", "output": "1"}]})
    assert (answer.status_code, answer.json()["code"]) == (409, "task_not_waiting")
