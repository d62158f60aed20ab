"""The tasks' rows of the public contract: acceptance, reading, logs, history, cancelling."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from fakes.ollama import Behaviour, FakeOllama
from system.client import Client
from system.waiting import eventually

FIELDS = {
    "id", "agent_id", "status", "input", "output", "error_message", "retry_count", "created_at", "started_at",
    "completed_at", "attempt", "session_id", "user",
}  # fmt: skip
LOG_FIELDS = {"id", "task_id", "agent_id", "level", "message", "context", "timestamp", "stream_id"}
SHORT = {"max_tokens": 4, "temperature": 0}


async def test_a_run_is_accepted_and_ends(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    answer = await client.http.post("/agents/run", json={"agent_id": agent["id"], "input": {"prompt": "Say hi."}})
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["status"] == "pending"
    task_id = accepted["task_id"]
    assert answer.headers["location"] == f"/api/v1/tasks/{task_id}/status"
    assert accepted["links"]["status"] == f"/api/v1/tasks/{task_id}/status"
    task = await client.wait(task_id)
    assert set(task) >= FIELDS
    assert task["status"] == "completed"
    assert task["attempt"] == 1
    assert task["retry_count"] == 0
    assert task["input"] == {"prompt": "Say hi."}
    assert set(task["output"]) >= {"text", "data", "usage", "model"}
    assert task["created_at"] <= task["started_at"] <= task["completed_at"]


async def test_an_idempotency_key_gives_one_task(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    body = {"agent_id": agent["id"], "input": {"prompt": "once"}}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    answers = await asyncio.gather(*(client.http.post("/agents/run", json=body, headers=headers) for _ in range(8)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["task_id"] for a in answers}) == 1
    other = await client.http.post("/agents/run", json={**body, "input": {"prompt": "twice"}}, headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_conflict"


async def test_messages_are_an_input_too(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    messages = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada."}]
    run_input = {"messages": [*messages, {"role": "user", "content": "Who am I?"}]}
    answer = await client.http.post("/agents/run", json={"agent_id": agent["id"], "input": run_input})
    assert (await client.wait(answer.json()["task_id"]))["input"] == run_input


async def test_a_run_of_no_agent_is_404(client: Client) -> None:
    body = {"agent_id": "01900000-0000-7000-8000-000000000000", "input": {"prompt": "x"}}
    answer = await client.http.post("/agents/run", json=body)
    assert answer.status_code == 404
    assert answer.json()["code"] == "agent_not_found"


async def test_tasks_are_paged_and_filtered(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    before = datetime.now(UTC)
    ids = [await client.run(agent["id"], f"{n}") for n in range(5)]
    for task_id in ids:
        await client.wait(task_id)
    listed = await client.all_pages("/tasks", agent_id=agent["id"], limit=2)
    assert [t["id"] for t in listed] == list(reversed(ids))
    assert await client.all_pages("/tasks", agent_id=agent["id"], status=["failed", "cancelled"]) == []
    completed = await client.all_pages("/tasks", agent_id=agent["id"], status=["completed", "failed"])
    assert len(completed) == 5
    early = (before - timedelta(hours=1)).isoformat()
    late = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert len(await client.all_pages("/tasks", agent_id=agent["id"], created_after=early, created_before=late)) == 5
    assert await client.all_pages("/tasks", agent_id=agent["id"], created_after=late) == []
    assert await client.all_pages("/tasks", agent_id=agent["id"], created_before=early) == []
    wrong = await client.http.get("/tasks", params={"status": "done"})
    assert wrong.status_code == 422


async def test_logs_are_paged_and_filtered(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    task_id = await client.run(agent["id"], "log me")
    await client.wait(task_id)

    async def all_persisted() -> list[dict[str, object]]:
        logs = await client.all_pages(f"/tasks/{task_id}/logs", limit=2)
        return logs if any(log["context"].get("status") == "completed" for log in logs) else []

    logs = await eventually(all_persisted, what="the run's last log")
    assert set(logs[0]) >= LOG_FIELDS
    streamed = [e.id for e in await client.events(task_id) if e.event not in ("delta", "end")]
    assert [log["stream_id"] for log in logs] == streamed
    path = f"/tasks/{task_id}/logs"
    assert await client.all_pages(path, level="error") == []
    assert len(await client.all_pages(path, level="info")) == len(logs)
    assert await client.all_pages(path, since="2100-01-01T00:00:00Z") == []
    assert await client.all_pages(path, until="2000-01-01T00:00:00Z") == []
    assert [log["message"] for log in await client.all_pages(path, contains="COMPLETION TOKENS")] == [
        log["message"] for log in logs if "completion tokens" in str(log["message"])
    ]
    assert (await client.http.get("/tasks/01900000-0000-7000-8000-000000000000/logs")).status_code == 404


async def test_history_reaches_over_tasks(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    ids = [await client.run(agent["id"], f"{n}") for n in range(3)]
    for task_id in ids:
        await client.wait(task_id)

    async def history() -> list[dict[str, object]]:
        found = await client.all_pages("/logs/history", agent_id=agent["id"], limit=4)
        return found if sum(log["context"].get("status") == "completed" for log in found) == 3 else []

    found = await eventually(history, what="the history of three runs")
    assert {log["task_id"] for log in found} == set(ids)
    some = await client.all_pages("/logs/history", task_id=ids[:2])
    assert {log["task_id"] for log in some} == set(ids[:2])
    finished = await client.all_pages("/logs/history", agent_id=agent["id"], **{"context.status": "completed"})
    assert sorted(str(log["task_id"]) for log in finished) == sorted(ids)
    assert await client.all_pages("/logs/history", agent_id=agent["id"], level=["error"]) == []
    unknown = await client.http.get("/logs/history", params={"levl": "info"})
    assert unknown.status_code == 422
    assert "level" in unknown.text


async def test_a_finished_task_cannot_be_cancelled(client: Client) -> None:
    agent = await client.create_agent(config=SHORT)
    task_id = await client.run(agent["id"])
    await client.wait(task_id)
    answer = await client.http.delete(f"/tasks/{task_id}")
    assert answer.status_code == 409
    assert answer.json()["code"] == "task_finished"


async def test_a_session_remembers(client: Client) -> None:
    agent = await client.create_agent(config={**SHORT, "max_tokens": 8})
    session_id = str(uuid.uuid4())
    first = await client.wait(await client.run(agent["id"], "My dog is called Rex.", session_id=session_id))
    second = await client.wait(await client.run(agent["id"], "And?", session_id=session_id))
    assert first["session_id"] == second["session_id"] == session_id
    alone = await client.wait(await client.run(agent["id"], "And?"))
    assert (
        second["output"]["usage"]["prompt_tokens"]
        >= first["output"]["usage"]["prompt_tokens"] + first["output"]["usage"]["completion_tokens"] + 4
        > alone["output"]["usage"]["prompt_tokens"]
    )
    other = await client.create_agent()
    refused = await client.http.post(
        "/agents/run", json={"agent_id": other["id"], "input": {"prompt": "x"}, "session_id": session_id}
    )
    assert refused.status_code == 422


async def test_an_output_schema_holds(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    agent = await client.create_agent(config={"output_schema": schema, "max_tokens": 60, "temperature": 0})
    task = await client.wait(await client.run(agent["id"], "A colour and a number, please."))
    assert task["status"] == "completed", task
    assert task["output"]["data"]["colour"] in ("red", "green", "blue")
    assert isinstance(task["output"]["data"]["count"], int)


async def test_a_failed_run_shows_its_attempts_and_is_started_again(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("mended:1b", Behaviour(status=400, error="too hot"))
    agent = await client.create_agent(model_name="mended:1b")
    task_id = await client.run(agent["id"])
    assert (await client.wait(task_id))["status"] == "failed"
    (attempt,) = await client.all_pages(f"/tasks/{task_id}/attempts")
    assert (attempt["attempt"], attempt["outcome"], attempt["error_code"]) == (1, "failed", "model_refused")
    assert attempt["started_at"] <= attempt["ended_at"]

    fake_ollama.behave("mended:1b", Behaviour(pieces=("fine",)))
    retried = await client.http.post(f"/tasks/{task_id}/retry")
    assert retried.status_code == 202, retried.text
    assert retried.json()["links"]["attempts"] == f"/api/v1/tasks/{task_id}/attempts"
    task = await client.wait(task_id)
    assert (task["status"], task["attempt"], task["output"]["text"]) == ("completed", 2, "fine")
    _, second = await client.all_pages(f"/tasks/{task_id}/attempts")
    assert (second["outcome"], second["resumed_from"]) == ("completed", "generate")
    again = await client.http.post(f"/tasks/{task_id}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "task_not_retryable")

    seen = await client.events(task_id)
    statuses = [event.data["context"]["status"] for event in seen if event.event == "status"]
    assert statuses == ["running", "failed", "pending", "running", "completed"]
    assert [event.data["context"]["step"] for event in seen if event.data.get("message") == "generate resumed"] == [
        "generate"
    ]
    assert seen[-1].data["status"] == "completed"


async def test_a_cancelled_run_is_started_again_from_the_start(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("slow:1b", Behaviour(seconds_before_first=60))
    agent = await client.create_agent(model_name="slow:1b")
    task_id = await client.run(agent["id"])
    await client.wait(task_id, status=("running",))
    assert (await client.http.delete(f"/tasks/{task_id}")).status_code == 202
    assert (await client.wait(task_id))["status"] == "cancelled"
    fake_ollama.behave("slow:1b", Behaviour())
    assert (await client.http.post(f"/tasks/{task_id}/retry", json={"from": "start"})).status_code == 202
    assert (await client.wait(task_id))["status"] == "completed"
    _, second = await client.all_pages(f"/tasks/{task_id}/attempts")
    assert second["resumed_from"] is None
