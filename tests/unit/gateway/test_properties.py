"""Whatever a client sends, the answer is the client's fault or none: never a 5xx, and always JSON.

A socket is answered or closed with a code that says why; nothing hangs, and no error is logged.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from hearth.agent.v1 import task_pb2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from loguru import logger
from servers.gateway import World, until
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

# Of a task that is not there.
TASK = "0199f0a5-1c2d-7e4f-8a6b-9c0d1e2f3a4b"

FEW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)

CLOSES = {1000, 1009, 4400, 4404, 4422}
# The close codes of a WebSocket that is itself wrong: RFC 6455, section 7.4.1.
PROTOCOL_CLOSES = {1002, 1007, 1009}

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
# What parsers are known to trip over.
odd_texts = st.sampled_from([
    "[" * 20_000, '{"a":' * 5_000 + "1" + "}" * 5_000, '{"subscribe":' * 100, "1e400", "-" * 5_000, "9" * 5_000,
    '{"subscribe":{},"subscribe":{}}', '{"subscribe":{"contains":"\\ud800"}}', "\ufeff{}", "NaN", '"\\u0000"', "",
    '{"subscribe":{"task_ids":[' + ",".join(["1"] * 5_000) + "]}}", '{"subscribe":{},"after":"1\u0660-0"}',
    '{"subscribe":{"context":{"\\u0000":"x"}}}', '{"subscribe":{},"name":"' + "n" * 10_000 + '"}',
])  # fmt: skip
filter_names = st.sampled_from(["task_ids", "agent_ids", "levels", "kinds", "contains", "context", "x"])
bodies = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"name": st.text(), "model_name": st.text()},
        optional={"config": st.dictionaries(config_names, json_values), "is_active": json_values},
    ),
    st.fixed_dictionaries({"agent_id": ids, "input": json_values}, optional={"session_id": json_values}),
)


@pytest.fixture(autouse=True)
async def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fails a test in which the gateway, its server or asyncio logs an error."""
    errors: list[str] = []
    sink = logger.add(errors.append, level="ERROR")
    yield
    logger.remove(sink)
    assert errors == []
    assert [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR] == []


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
        ("GET", f"/tasks/{part}/attempts"),
        ("POST", f"/tasks/{part}/retry"),
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
    await call(world, "GET", f"/agents/{TASK}", headers=[(b"Prefer", raw), (b"Prefer", b"wait=" + raw)])
    await call(world, "POST", f"/tasks/{TASK}/retry", headers=[(b"Content-Encoding", raw), (b"Traceparent", raw)])


@FEW
@given(body=bodies)
async def test_any_body(world: World, body: Any) -> None:
    # As Python writes it: NaN, infinities and halves of surrogate pairs among it.
    content = json.dumps(body).encode()
    task = await world.state.add_task(status=task_pb2.Task.STATUS_FAILED)
    for method, path in (
        ("POST", "/agents/create"),
        ("POST", "/agents/run"),
        ("PUT", f"/agents/{task.agent_id}"),
        ("POST", f"/tasks/{task.id}/retry"),
    ):
        await call(world, method, path, content=content, headers={"content-type": "application/json"})


@FEW
@given(content=st.one_of(st.binary(max_size=200), odd_texts.map(str.encode)))
async def test_any_bytes(world: World, content: bytes) -> None:
    for path in ("/agents/create", "/agents/run", f"/tasks/{TASK}/retry"):
        await call(world, "POST", path, content=content, headers={"content-type": "application/json"})


@FEW
@given(raw=st.binary(max_size=30))
async def test_any_bytes_of_a_query(world: World, raw: bytes) -> None:
    # Percent-encoded, so that they need not be UTF-8.
    escaped = "".join(f"%{byte:02X}" for byte in raw)
    for query in (f"name={escaped}", f"cursor={escaped}", f"{escaped}={escaped}", f"limit=1&{escaped}&name=%", "&=&&="):
        await call(world, "GET", f"/agents?{query}")
    await call(world, "GET", f"/logs/history?contains={escaped}&context.{escaped}={escaped}&task_id=,{escaped},")
    await call(world, "GET", f"/tasks?created_after={escaped}&status={escaped}")


@FEW
@given(task=st.booleans(), value=st.one_of(st.text(), st.from_regex(r"\A[0-9٠-٩]{1,30}-[0-9]{1,30}\Z"), odd_texts))
async def test_any_place_to_resume_at(world: World, task: bool, value: str) -> None:
    row = await world.state.add_task(status=task_pb2.Task.STATUS_COMPLETED)
    task_id = row.id if task else TASK
    value = value[:500]
    await call(world, "GET", f"/logs/stream/{task_id}", params={"last_event_id": value})
    async with world.socket(f"/tasks/{task_id}?after={quote(value)}") as client:
        frames, close = await conversation(client)
        assert close is not None
        assert close.code in CLOSES
        assert frames[-1]["kind"] == ("end" if close.code == 1000 else "error")


@FEW
@given(raw=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1, max_size=200))
async def test_any_path_of_a_socket(world: World, raw: str) -> None:
    async with world.socket(f"/tasks/{quote(raw, safe='')}") as client:
        frames, close = await conversation(client)
        assert close is not None
        assert (frames[-1]["kind"], close.code) == ("error", 4422)
        assert close.reason


sent = st.one_of(bodies.map(json.dumps), st.text(), odd_texts, st.binary(max_size=100))


@FEW
@given(
    messages=st.lists(sent, min_size=1, max_size=4),
    first=st.booleans(),
    filters=st.dictionaries(filter_names, json_values),
)
@example(messages=["[" * 60_000], first=True, filters={})
@example(messages=["x" * 70_000], first=False, filters={})
async def test_any_messages_of_a_socket(
    world: World, messages: list[str | bytes], first: bool, filters: dict[str, Any]
) -> None:
    """A valid subscription before them or not, and one more after them: it is answered, or the close says why not."""
    async with world.socket("/logs") as client:
        try:
            for message in (*([] if first else ['{"subscribe":{}}']), *messages, json.dumps({"subscribe": filters})):
                await client.send(message)
        except ConnectionClosed:
            pass
        frames, close = await conversation(client, answers=len(messages) + 2 - first)
        for frame in frames:
            assert "subscribed" in frame or (frame["error"]["status"] == 422 and frame["error"]["detail"])
        assert close is None or (close.code in CLOSES and (close.reason or close.code == 1009))


@FEW
@given(messages=st.lists(sent, max_size=3))
async def test_any_messages_to_a_socket_that_takes_none(world: World, messages: list[str | bytes]) -> None:
    task = await world.state.add_task()
    async with world.socket(f"/tasks/{task.id}") as client:
        for message in messages:
            await client.send(message)
        event = await world.state.add_event(task)
        await world.state.end_task(task)
        frames, close = await conversation(client)
        assert close is not None
        assert [f.get("id", f["kind"]) for f in frames] == [event.stream_id, "end"]
        assert close.code == 1000


@FEW
@given(raw=st.binary(min_size=2, max_size=60))
@example(raw=b"\xff\xff" + b"\xff" * 8)
@example(raw=b"\x81\x85abcd\xff\xff\xff\xff\xff")
@example(raw=b"\x01\x80abcd" * 20)
async def test_any_bytes_on_a_socket(world: World, raw: bytes) -> None:
    """Frames that no client makes: the socket is closed, with a code where there is still somebody to tell it."""
    task = await world.state.add_task()
    reader, writer = await upgraded(world, f"/api/v1/ws/tasks/{task.id}")
    writer.write(raw)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    # Heartbeats of the protocol aside, what is sent here is a close frame, if the client did not go before it.
    if answer[:1] == b"\x88":
        assert int.from_bytes(answer[2:4]) in PROTOCOL_CLOSES
    await until(lambda: world.state.open_streams == 0)


@FEW
@given(raw=st.binary(min_size=1, max_size=100))
@example(raw=b"GET / HTTP/9.9\r\n\r\n")
@example(raw=b"GET /api/v1/agents HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n")
@example(raw=b"POST /api/v1/agents/run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
@example(raw=b"POST /api/v1/agents/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n")
async def test_any_bytes_on_a_connection(world: World, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(raw)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer == b"" or 400 <= int(answer.split(b" ")[1]) < 500


async def conversation(client: ClientConnection, *, answers: int | None = None) -> tuple[list[Any], Close | None]:
    """The frames that are no heartbeats, and how the server closes; None where it gave so many frames before."""
    frames: list[Any] = []
    async with asyncio.timeout(10):
        while answers is None or len(frames) < answers:
            try:
                frame = json.loads(await client.recv())
            except ConnectionClosed as closed:
                return frames, closed.rcvd
            if frame.get("kind") != "heartbeat":
                frames.append(frame)
    return frames, None


async def upgraded(world: World, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has become a WebSocket, without a client that knows its rules."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    head = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
    writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@FEW
@given(message=st.one_of(bodies.map(json.dumps), st.text()), filters=st.dictionaries(filter_names, json_values))
async def test_any_message_of_a_socket(world: World, message: str, filters: Any) -> None:
    for text in (message, json.dumps({"subscribe": filters})):
        async with world.socket("/logs") as client:
            await client.send(text)
            frame = json.loads(await client.recv())
            assert "subscribed" in frame or frame["error"]["status"] == 422
