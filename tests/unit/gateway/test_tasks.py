"""Tasks: listed, read, cancelled, and their logs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hearth.agent.v1 import task_pb2
from hearth.log.v1 import event_pb2
from hearth_runtime.errors import QueueFull
from hearth_runtime.identifiers import new_id
from servers.gateway import World

TASK_FIELDS = {
    "id", "agent_id", "session_id", "status", "input", "output", "error_code", "error_message", "retry_count",
    "attempt", "created_at", "started_at", "completed_at", "next_attempt_at", "cancel_requested", "pending",
    "parent_task_id", "user", "forked_from_task_id", "replay_of_task_id", "trace_id", "links",
}  # fmt: skip


async def test_a_task_is_shown_whole(world: World) -> None:
    output = (
        '{"text":"Red","data":{"a":[1,null]},"usage":{"prompt_tokens":3,"completion_tokens":1,"x":0.5},"model":"m"}'
    )
    task = await world.state.add_task(status=task_pb2.Task.STATUS_COMPLETED, output=output, retry_count=1)
    task.started_at.FromJsonString("2026-01-02T03:04:05.678901Z")
    answer = await world.http.get(f"/tasks/{task.id}/status")
    assert answer.status_code == 200
    shown = answer.json()
    assert set(shown) == TASK_FIELDS
    assert shown["status"] == "completed"
    assert shown["output"] == {
        "text": "Red",
        "data": {"a": [1, None]},
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "x": 0.5},
        "model": "m",
    }
    assert shown["input"] == {"prompt": "hi"}
    assert shown["started_at"] == "2026-01-02T03:04:05.678901Z"
    assert shown["completed_at"] is None
    assert shown["session_id"] is None


async def test_a_sub_tasks_input_shows_the_budget_that_it_was_given(world: World) -> None:
    budget = {"max_model_tokens": 70, "max_seconds": 0.5}
    task = await world.state.add_task(input=json.dumps({"prompt": "hi", "budget": budget}))
    for path in (f"/tasks/{task.id}/status", "/tasks"):
        answer = await world.http.get(path)
        assert answer.status_code == 200, answer.text
    (listed,) = [item for item in answer.json()["items"] if item["id"] == task.id]
    assert listed["input"] == {"prompt": "hi", "budget": budget}


async def test_an_unknown_task_is_404_everywhere(world: World) -> None:
    task_id = new_id()
    for method, path in (
        ("GET", f"/tasks/{task_id}/status"),
        ("GET", f"/tasks/{task_id}/logs"),
        ("DELETE", f"/tasks/{task_id}"),
        ("GET", f"/logs/stream/{task_id}"),
    ):
        answer = await world.http.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found"), path


async def test_tasks_are_filtered_and_paged(world: World) -> None:
    agent = await world.state.add_agent()
    status = task_pb2.Task
    tasks = [
        await world.state.add_task(agent_id=agent.id, status=s)
        for s in (status.STATUS_PENDING, status.STATUS_RUNNING, status.STATUS_FAILED, status.STATUS_RUNNING)
    ]

    async def ids(*params: tuple[str, str]) -> list[str]:
        found: list[str] = []
        cursor: list[tuple[str, str]] = []
        while True:
            query: list[tuple[str, Any]] = [("agent_id", agent.id), ("limit", "2"), *params, *cursor]
            page = (await world.http.get("/tasks", params=query)).json()
            found += [t["id"] for t in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = [("cursor", page["next_cursor"])]

    newest_first = [t.id for t in reversed(tasks)]
    assert await ids() == newest_first
    assert await ids(("status", "running")) == [tasks[3].id, tasks[1].id]
    assert await ids(("status", "pending,failed")) == [tasks[2].id, tasks[0].id]
    assert await ids(("status", "pending"), ("status", "failed")) == [tasks[2].id, tasks[0].id]
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert await ids(("created_after", (now - hour).isoformat())) == newest_first
    assert await ids(("created_after", (now + hour).isoformat())) == []
    assert await ids(("created_before", (now - hour).isoformat().replace("+00:00", "Z"))) == []
    # A plus that nobody has escaped arrives as a blank.
    answer = await world.http.get(f"/tasks?created_before=2026-01-01T00:00:00+01:00&agent_id={agent.id}")
    assert answer.json()["items"] == []


async def test_cancel_tells_the_state_and_is_409_once_finished(world: World) -> None:
    running = await world.state.add_task()
    answer = await world.http.delete(f"/tasks/{running.id}")
    assert answer.status_code == 202
    assert answer.json() == {"task_id": running.id, "status": "running"}
    assert (await world.http.get(f"/tasks/{running.id}/status")).json()["cancel_requested"] is True
    pending = await world.state.add_task(status=task_pb2.Task.STATUS_PENDING)
    assert (await world.http.delete(f"/tasks/{pending.id}")).json()["status"] == "cancelled"
    again = await world.http.delete(f"/tasks/{pending.id}")
    assert (again.status_code, again.json()["code"]) == (409, "task_finished")


async def test_a_tasks_logs_are_filtered_by_this_level_and_worse(world: World) -> None:
    task = await world.state.add_task()
    level = event_pb2.Event
    for name, number in (
        ("debug", level.LEVEL_DEBUG),
        ("info", level.LEVEL_INFO),
        ("warning", level.LEVEL_WARNING),
        ("error", level.LEVEL_ERROR),
    ):
        await world.state.add_event(task, f"A {name} line", level=number, context=f'{{"name":"{name}","n":[1.50]}}')

    async def messages(**params: str) -> list[str]:
        page = (await world.http.get(f"/tasks/{task.id}/logs", params=params)).json()
        return [log["message"] for log in page["items"]]

    everything = ["A debug line", "A info line", "A warning line", "A error line"]
    assert await messages() == everything
    assert await messages(level="warning") == everything[2:]
    assert await messages(level="debug") == everything
    assert await messages(contains="WARN") == ["A warning line"]
    assert await messages(since="2020-01-01T00:00:00Z", until="2100-01-01T00:00:00Z") == everything
    assert await messages(until="2020-01-01T00:00:00Z") == []
    assert await messages(descending="true", limit="2") == everything[:1:-1]
    log = (await world.http.get(f"/tasks/{task.id}/logs", params={"level": "error"})).json()["items"][0]
    assert set(log) == {
        "id", "task_id", "agent_id", "level", "kind", "attempt", "message", "context", "timestamp", "stream_id",
        "trace_id",
    }  # fmt: skip
    assert log["context"] == {"name": "error", "n": [1.5]}
    assert log["level"] == "error"
    assert log["kind"] == "log"
    assert log["trace_id"] is None
    await world.state.add_event(task, "traced", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    (log,) = (await world.http.get(f"/tasks/{task.id}/logs", params={"contains": "traced"})).json()["items"]
    assert log["trace_id"] == "ab" * 16


async def test_a_task_without_logs_has_an_empty_page(world: World) -> None:
    task = await world.state.add_task()
    answer = await world.http.get(f"/tasks/{task.id}/logs")
    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next_cursor": None}


async def test_history_takes_every_filter_of_the_contract(world: World) -> None:
    one, two = await world.state.add_task(), await world.state.add_task()
    event = event_pb2.Event
    await world.state.add_event(one, "alpha", context='{"tool":"search","n":1}')
    await world.state.add_event(one, "beta", level=event.LEVEL_ERROR)
    await world.state.add_event(one, "piece", kind=event.KIND_DELTA)
    await world.state.add_event(two, "gamma", level=event.LEVEL_WARNING, kind=event.KIND_TOOL_CALL)

    async def messages(*params: tuple[str, str]) -> list[str]:
        found: list[str] = []
        cursor: list[tuple[str, str]] = []
        while True:
            query: list[tuple[str, Any]] = [*params, *cursor, ("limit", "1")]
            page = (await world.http.get("/logs/history", params=query)).json()
            found += [log["message"] for log in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = [("cursor", page["next_cursor"])]

    both = ("task_id", f"{one.id},{two.id}")
    assert await messages(both) == ["alpha", "beta", "gamma"]
    assert await messages(("task_id", one.id), ("task_id", two.id)) == ["alpha", "beta", "gamma"]
    assert await messages(("agent_id", two.agent_id)) == ["gamma"]
    assert await messages(both, ("level", "info"), ("level", "warning")) == ["alpha", "gamma"]
    assert await messages(both, ("kind", "tool_call,usage")) == ["gamma"]
    assert await messages(both, ("contains", "A"), ("context.tool", "search")) == ["alpha"]
    assert await messages(both, ("context.tool", "search"), ("context.n", "2")) == []
    assert await messages(both, ("descending", "true")) == ["gamma", "beta", "alpha"]
    assert await messages(both, ("until", "2020-01-01T00:00:00Z")) == []


async def test_models_and_hosts_are_listed(world: World) -> None:
    answer = await world.http.get("/models")
    assert answer.status_code == 200
    body = answer.json()
    assert body["items"][0]["name"] == "smollm2:135m"
    assert body["items"][0]["capabilities"] == ["completion"]
    assert body["items"][0]["context_tokens"] is None
    assert [(h["name"], h["reachable"], h["error"]) for h in body["hosts"]] == [
        ("http://one", True, None),
        ("http://two", False, "refused"),
    ]
    assert [h["breaker"] for h in body["hosts"]] == [
        {"state": "closed", "reason": None, "since": None, "next_probe": None},
        {
            "state": "open",
            "reason": "refused",
            "since": "2027-01-15T08:00:00Z",
            "next_probe": "2027-01-15T08:00:05Z",
        },
    ]


async def test_a_failed_task_is_started_again(world: World) -> None:
    task = await world.state.add_task(status=task_pb2.Task.STATUS_FAILED)
    for body, (from_start, repeat_tool_calls) in (
        (None, (False, False)),
        ({}, (False, False)),
        ({"from": "start"}, (True, False)),
        ({"from": "checkpoint", "repeat_tool_calls": True}, (False, True)),
    ):
        task.status = task_pb2.Task.STATUS_FAILED
        answer = await world.http.post(f"/tasks/{task.id}/retry", json=body)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/api/v1/tasks/{task.id}/status"
        assert answer.json()["status"] == "pending"
        assert answer.json()["links"]["attempts"] == f"/api/v1/tasks/{task.id}/attempts"
        asked = world.state.retries[-1]
        assert (asked.id, asked.from_start, asked.repeat_tool_calls) == (task.id, from_start, repeat_tool_calls)
    again = await world.http.post(f"/tasks/{task.id}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "task_not_retryable")


async def test_a_retry_that_makes_no_sense_says_why(world: World) -> None:
    task = await world.state.add_task(status=task_pb2.Task.STATUS_FAILED)
    for body, field in (({"from": "middle"}, "from"), ({"form": "start"}, "form"), ({"start": "start"}, "start")):
        answer = await world.http.post(f"/tasks/{task.id}/retry", json=body)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    answer = await world.http.post(f"/tasks/{task.id}/retry", json={"form": "start"})
    assert "did you mean `from`?" in answer.json()["errors"][0]["message"]
    answer = await world.http.post(f"/tasks/{task.id}/retry", content=b"x")
    assert answer.status_code == 415
    assert (await world.http.post(f"/tasks/{new_id()}/retry")).status_code == 404
    world.state.failures["RetryTask"] = QueueFull("Too many wait.", retry_after_seconds=4.2)
    answer = await world.http.post(f"/tasks/{task.id}/retry")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "queue_full", "5")


async def test_a_task_shows_its_attempts(world: World) -> None:
    task = await world.state.add_task()
    lost = task_pb2.Attempt(
        attempt=1,
        worker_id="w1",
        outcome=task_pb2.Attempt.OUTCOME_WORKER_LOST,
        error_code="worker_lost",
        error_message="It stopped answering.",
        started_at=task.created_at,
        ended_at=task.created_at,
    )
    going = task_pb2.Attempt(attempt=2, worker_id="w2", started_at=task.created_at, resumed_from="generate")
    world.state.attempts[task.id] = [lost, going]
    shown = (await world.http.get(f"/tasks/{task.id}/attempts")).json()
    assert shown["next_cursor"] is None
    first, second = shown["items"]
    assert (first["attempt"], first["outcome"], first["error_code"], first["resumed_from"]) == (
        1, "worker_lost", "worker_lost", None
    )  # fmt: skip
    assert (second["attempt"], second["outcome"], second["ended_at"], second["resumed_from"]) == (
        2, None, None, "generate"
    )  # fmt: skip
    assert (await world.http.get(f"/tasks/{new_id()}/attempts")).status_code == 404
