"""Checkpoints, forks and replays over HTTP."""

import json
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2
from hearth_runtime.errors import HistoryExpired
from hearth_runtime.identifiers import new_id
from servers.gateway import World


async def test_checkpoints_are_shown_with_their_state(world: World) -> None:
    task = await world.state.add_task()
    page = (await world.http.get(f"/tasks/{task.id}/checkpoints")).json()
    (shown,) = page["items"]
    assert (shown["id"], shown["finished"], shown["next"], shown["attempt"]) == ("1", [], ["generate"], 1)
    assert (shown["state"], shown["is_cut"], page["next_cursor"]) == ({"n": [1.5, None]}, False, None)
    assert (await world.http.get(f"/tasks/{task.id}/checkpoints", params={"limit": 101})).status_code == 422


async def test_a_fork_is_passed_on_as_it_is(world: World) -> None:
    task = await world.state.add_task()
    body = {
        "step": "answer",
        "state": {"spent": {"steps": 2}, "problems": None},
        "input": {"prompt": "Why?"},
        "answers": {"act:0": {"text": "No."}},
    }
    answer = await world.http.post(f"/tasks/{task.id}/fork", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    forked = (await world.http.get(answer.headers["Location"].removeprefix("/api/v1"))).json()
    assert (forked["forked_from_task_id"], forked["replay_of_task_id"]) == (task.id, None)
    sent = world.state.forks[-1]
    assert (sent.step, sent.HasField("checkpoint_id"), sent.idempotency_key) == ("answer", False, "k")
    for name in ("state", "input", "answers"):
        assert json.loads(getattr(sent, name)) == body[name]
    # With nothing said it begins at the beginning, with a key of the gateway's.
    assert (await world.http.post(f"/tasks/{task.id}/fork")).status_code == 202
    sent = world.state.forks[-1]
    assert not any(sent.HasField(name) for name in ("checkpoint_id", "step", "state", "input"))
    assert sent.answers == "{}"
    assert sent.idempotency_key


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"step": "a", "checkpoint_id": "b"}, "body"),
        ({"step": None}, "step"),
        ({"checkpoint_id": ""}, "checkpoint_id"),
        ({"state": [1]}, "state"),
        ({"state": {"a": "x" * 600_000}}, "state"),
        ({"answers": {"a": "\0"}}, "answers"),
        ({"input": {"prompt": "a", "messages": []}}, "input.messages"),
        ({"checkpoint": "a"}, "checkpoint"),
    ],
)
async def test_a_fork_that_is_none_is_refused(world: World, body: Any, field: str) -> None:
    task = await world.state.add_task()
    answer = await world.http.post(f"/tasks/{task.id}/fork", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_a_replay_is_of_what_has_ended(world: World) -> None:
    task = await world.state.add_task()
    answer = await world.http.post(f"/tasks/{task.id}/replay")
    assert (answer.status_code, answer.json()["code"]) == (409, "task_not_replayable")
    await world.state.end_task(task, task_pb2.Task.STATUS_FAILED)
    answer = await world.http.post(f"/tasks/{task.id}/replay")
    assert answer.status_code == 202, answer.text
    replayed = (await world.http.get(answer.headers["Location"].removeprefix("/api/v1"))).json()
    assert (replayed["replay_of_task_id"], replayed["forked_from_task_id"]) == (task.id, None)


@pytest.mark.parametrize(
    ("method", "path", "rpc"),
    [("GET", "checkpoints", "ListCheckpoints"), ("POST", "fork", "ForkTask"), ("POST", "replay", "ReplayTask")],
)
async def test_what_is_kept_no_longer_is_gone(world: World, method: str, path: str, rpc: str) -> None:
    task = await world.state.add_task()
    world.state.failures[rpc] = HistoryExpired("It is kept no longer.")
    answer = await world.http.request(method, f"/tasks/{task.id}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (410, "history_expired")
    answer = await world.http.request(method, f"/tasks/{new_id()}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
