"""Errors that any call may answer, and the bounds of what is taken."""

import json
from collections.abc import AsyncIterator

import pytest
from hearth_runtime.errors import (
    Cancelled,
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    QueueFull,
    ResourceExhausted,
    Unavailable,
)
from hearth_runtime.identifiers import new_id
from servers.gateway import World, open_world

JSON = {"content-type": "application/json"}


async def test_a_problem_has_all_that_the_contract_names(world: World) -> None:
    path = f"/agents/{new_id()}"
    answer = await world.http.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem == {
        "type": "urn:hearth:problem:agent_not_found",
        "title": "There is no such agent",
        "status": 404,
        "detail": problem["detail"],
        "instance": f"/api/v1{path}",
        "code": "agent_not_found",
    }


async def test_an_unknown_path_is_404(world: World) -> None:
    for path in ("/nope", "/agents/", "/tasks/x/y/z"):
        answer = await world.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/agents", "GET"),
        ("GET", "/agents/create", "POST"),
        ("DELETE", "/agents/run", "POST"),
        ("PATCH", "/agents/01932c07-0000-7000-8000-000000000001", "DELETE, GET, PUT"),
        ("GET", "/tasks/01932c07-0000-7000-8000-000000000001", "DELETE"),
        ("POST", "/health", "GET"),
    ],
)
async def test_a_wrong_method_is_405_and_told_all_right_ones(world: World, method: str, path: str, allow: str) -> None:
    answer = await world.http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"name":}', b"\xff\xfe", b"[" * 100_000])
async def test_what_is_not_json_is_400(world: World, body: bytes) -> None:
    answer = await world.http.post("/agents/create", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def test_a_body_of_another_type_is_415(world: World) -> None:
    body = json.dumps({"name": "n", "model_name": "m"})
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}):
        answer = await world.http.post("/agents/create", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"):
        answer = await world.http.post("/agents/create", content=body, headers={"content-type": media_type})
        assert answer.status_code == 201, media_type


async def test_a_missing_body_is_422(world: World) -> None:
    answer = await world.http.post("/agents/create", headers=JSON)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")


async def test_a_body_over_the_limit_is_413_however_it_comes(world: World) -> None:
    limit = world.settings.max_body_bytes
    assert limit == 1024 * 1024
    whole = await world.http.post("/agents/create", content=b" " * (limit + 1), headers=JSON)
    assert (whole.status_code, whole.json()["code"]) == (413, "body_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (limit // 16)

    chunked = await world.http.post("/agents/create", content=chunks(), headers=JSON)
    assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")
    # What reads no body refuses one as well, where its length is told.
    answer = await world.http.request("DELETE", f"/agents/{new_id()}", content=b" " * (limit + 1))
    assert answer.status_code == 413


async def test_a_body_at_the_limit_is_taken(world: World) -> None:
    body = json.dumps({"name": "n", "model_name": "m"}).encode().ljust(world.settings.max_body_bytes)
    assert (await world.http.post("/agents/create", content=body, headers=JSON)).status_code == 201


async def test_an_unknown_query_parameter_names_the_nearest(world: World) -> None:
    answer = await world.http.get("/tasks", params={"statsu": "running", "limit": 5})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "statsu", "message": "unknown query parameter; did you mean `status`?"}
    ]
    answer = await world.http.get("/models", params={"limit": 5})
    assert answer.json()["errors"][0]["message"] == "unknown query parameter; there are none here"


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/agents", {"limit": 0}, "limit"),
        ("/agents", {"limit": 501}, "limit"),
        ("/agents", {"limit": "many"}, "limit"),
        ("/agents", {"cursor": ""}, "cursor"),
        ("/agents", {"cursor": "é"}, "cursor"),
        ("/agents", {"cursor": "bogus"}, "cursor"),
        ("/agents", {"is_active": "perhaps"}, "is_active"),
        ("/agents", {"name": "\x00"}, "name"),
        ("/tasks", {"agent_id": "x"}, "agent_id"),
        ("/tasks", {"status": "running,sleeping"}, "status[1]"),
        ("/tasks", {"created_after": "yesterday"}, "created_after"),
        ("/tasks", {"created_after": "1764000000"}, "created_after"),
        ("/tasks", {"created_before": "2026-01-01T00:00:00"}, "created_before"),
        ("/tasks", {"created_before": "2026-02-30T00:00:00Z"}, "created_before"),
        ("/tasks", {"created_before": "0001-01-01T00:00:00+14:00"}, "created_before"),
        ("/tasks", {"created_before": "9999-12-31T23:59:59-14:00"}, "created_before"),
        ("/logs/history", {"level": "info,fatal"}, "level[1]"),
        ("/logs/history", {"kind": "noise"}, "kind[0]"),
        ("/logs/history", {"task_id": ",".join([new_id()] * 101)}, "task_id"),
        ("/logs/history", {"contains": ""}, "contains"),
        ("/logs/history", {"context.": "x"}, "context."),
        ("/logs/history", {"context.a\x00": "x"}, "context.a\x00"),
        ("/logs/history", {"context.a": "x" * 1001}, "context.a"),
        ("/logs/history", {"context.a": ["x", "y"]}, "context.a"),
        ("/logs/history", {f"context.{n}": "x" for n in range(21)}, "context"),
        ("/logs/history", {"contxt.a": "x"}, "contxt.a"),
    ],
)
async def test_a_wrong_query_value_is_named(world: World, path: str, params: dict[str, str], field: str) -> None:
    answer = await world.http.get(path, params=params)
    assert answer.status_code == 422, answer.text
    assert [e["field"] for e in answer.json()["errors"]] == [field]


async def test_a_service_that_is_away_is_503_with_a_time_to_wait() -> None:
    async with open_world(rpc_timeout_seconds=0.2) as world:
        await world.services.agent.stop()
        await world.services.log.stop()
        for path in ("/agents", f"/tasks/{new_id()}/logs", f"/logs/stream/{new_id()}"):
            answer = await world.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), path
            assert int(answer.headers["retry-after"]) > 0


async def test_what_a_service_raises_is_answered_as_what_it_is(world: World) -> None:
    cases = [
        (ResourceExhausted("Too much."), 429, "resource_exhausted"),
        (DeadlineExceeded("Too late."), 504, "deadline_exceeded"),
        (Cancelled(), 503, "call_cancelled"),
        (InvalidArgument("No.", fields=[FieldViolation(field="page_size", message="no")]), 422, "invalid_argument"),
        (RuntimeError("password=secret"), 500, "internal"),
    ]
    for error, status, code in cases:
        world.state.failures["GetTask"] = error
        answer = await world.http.get(f"/tasks/{new_id()}/status")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("retry-after" in answer.headers) == (status in (429, 503))
        assert "secret" not in answer.text
        if status == 422:
            assert answer.json()["errors"] == [{"field": "limit", "message": "no"}]


@pytest.mark.parametrize(
    ("seconds", "header"), [(None, "2"), (0.0, "1"), (0.2, "1"), (5.0, "5"), (5.1, "6"), (86400.0, "86400")]
)
async def test_the_time_to_wait_is_the_errors_own(world: World, seconds: float | None, header: str) -> None:
    for error, status in ((QueueFull, 429), (Unavailable, 503)):
        world.state.failures["CreateTask"] = error("Come back.", retry_after_seconds=seconds)
        answer = await world.http.post("/agents/run", json={"agent_id": new_id(), "input": {"prompt": "x"}})
        assert answer.status_code == status
        assert answer.headers["retry-after"] == header


async def test_an_unexpected_error_is_500_and_shows_nothing_of_itself(world: World) -> None:
    task = await world.state.add_task()
    task.input = "secret, and not JSON"
    answer = await world.http.get(f"/tasks/{task.id}/status")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "reference" in answer.json()["detail"]
    assert "secret" not in answer.text
    del world.state.tasks[task.id]
