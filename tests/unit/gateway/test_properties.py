"""Whatever a client sends, the answer is the client's fault or none: never a 5xx, and always JSON."""

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers.gateway import World

# Of a task that is not there.
TASK = "0199f0a5-1c2d-7e4f-8a6b-9c0d1e2f3a4b"

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)

ids = st.one_of(
    st.uuids().map(str), st.text(min_size=1), st.sampled_from([".", "..", "create", "run", "%", "0" * 5000])
)
values = st.one_of(st.text(), st.integers().map(str), st.datetimes().map(str), st.floats().map(str))
names = st.sampled_from([
    "limit", "cursor", "is_active", "name", "agent_id", "status", "created_after", "created_before", "level", "since",
    "until", "contains", "descending", "task_id", "kind", "kinds", "last_event_id", "context.a", "context.", "",
])  # fmt: skip
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.text(st.characters(categories=["Cs"]), max_size=2),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
config_names = st.sampled_from(["system_prompt", "temperature", "stop", "seed", "output_schema", "keep_alive", "x"])
filter_names = st.sampled_from(["task_ids", "agent_ids", "levels", "kinds", "contains", "context", "x"])
bodies = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"name": st.text(), "model_name": st.text()},
        optional={"config": st.dictionaries(config_names, json_values), "is_active": json_values},
    ),
    st.fixed_dictionaries({"agent_id": ids, "input": json_values}, optional={"session_id": json_values}),
)


async def call(world: World, method: str, path: str, **options: Any) -> None:
    """Sends a request and checks what of its answer always holds."""
    async with world.http.stream(method, path, **options) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return
        text = await answer.aread()
        assert answer.status_code < 500, text
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            problem = json.loads(text)
            assert problem["status"] == answer.status_code
            assert problem["code"]
            assert problem["detail"]


@FEW
@given(value=ids)
async def test_any_id(world: World, value: str) -> None:
    part = quote(value, safe="")
    for method, path in (
        ("GET", f"/agents/{part}"),
        ("DELETE", f"/agents/{part}"),
        ("GET", f"/tasks/{part}/status"),
        ("GET", f"/tasks/{part}/logs"),
        ("DELETE", f"/tasks/{part}"),
        ("GET", f"/logs/stream/{part}"),
    ):
        await call(world, method, path)


@FEW
@given(params=st.lists(st.tuples(names, values), max_size=4))
async def test_any_query(world: World, params: list[tuple[str, str]]) -> None:
    for path in ("/agents", "/tasks", f"/tasks/{TASK}/logs", f"/logs/stream/{TASK}", "/logs/history", "/models"):
        await call(world, "GET", path, params=params)


@FEW
@given(name=names, value=values)
async def test_any_value_of_each_parameter(world: World, name: str, value: str) -> None:
    for path in ("/agents", "/tasks", f"/tasks/{TASK}/logs", f"/logs/stream/{TASK}", "/logs/history"):
        await call(world, "GET", path, params={name: value})


@FEW
@given(value=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")))
async def test_any_header(world: World, value: str) -> None:
    raw = value.strip().encode("latin-1")
    await call(world, "GET", f"/logs/stream/{TASK}", headers=[(b"Last-Event-ID", raw)])
    body = {"agent_id": TASK, "input": {"prompt": "x"}}
    await call(world, "POST", "/agents/run", json=body, headers=[(b"Idempotency-Key", raw)])
    await call(world, "POST", "/agents/run", content=b"{}", headers=[(b"Content-Type", raw)])


@FEW
@given(body=bodies)
async def test_any_body(world: World, body: Any) -> None:
    # As Python writes it: NaN, infinities and halves of surrogate pairs among it.
    content = json.dumps(body).encode()
    for method, path in (("POST", "/agents/create"), ("POST", "/agents/run"), ("PUT", f"/agents/{TASK}")):
        await call(world, method, path, content=content, headers={"content-type": "application/json"})


@FEW
@given(content=st.binary(max_size=200))
async def test_any_bytes(world: World, content: bytes) -> None:
    for path in ("/agents/create", "/agents/run"):
        await call(world, "POST", path, content=content, headers={"content-type": "application/json"})


@FEW
@given(message=st.one_of(bodies.map(json.dumps), st.text()), filters=st.dictionaries(filter_names, json_values))
async def test_any_message_of_a_socket(world: World, message: str, filters: Any) -> None:
    for text in (message, json.dumps({"subscribe": filters})):
        async with world.socket("/logs") as client:
            await client.send(text)
            frame = json.loads(await client.recv())
            assert "subscribed" in frame or frame["error"]["status"] == 422
