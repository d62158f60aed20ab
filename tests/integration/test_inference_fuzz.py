"""Whatever "Ollama" sends, what comes out is an answer or a typed error: nothing else, and soon."""

import asyncio
import gzip
import json
import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import HearthError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inference_service.embedding import EmbeddingModels
from inference_service.generation import Generator
from inference_service.hosts import Hosts
from inference_service.output import clean
from inference_service.output_schema import SchemaChecker
from inference_service.rpc import InferenceRpc
from inference_service.settings import InferenceSettings

FEW = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
TAGS = json.dumps({"models": [{"name": "m", "model": "m"}]}).encode()
# Each is sent in these pieces, so that lines and characters are cut anywhere.
PIECES = 3

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([-1, 2**31, 2**63, -(2**70), 10**30, 10**400, 1e39, 1e300, float("inf")]),
        st.floats(),
        st.text(),
        st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
        st.sampled_from(["stop", "load", "1" * 400, "x" * 5000, "\x85\u2028\u2029\x00\x1b"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = (
    "model", "created_at", "message", "response", "done", "done_reason", "eval_count", "prompt_eval_count",
    "load_duration", "total_duration", "context", "embeddings", "models", "version", "error", "capabilities",
    "model_info", "details", "modified_at", "tool_calls", "content", "thinking", "name", "size", "digest", "family",
    "parameter_size", "quantization_level", "fake.context_length", "function", "arguments",
)  # fmt: skip
good = st.sampled_from([
    {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    {"model": "m", "message": {"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": "f", "arguments": {"a": ["b"]}}}, {"function": {"name": "g", "arguments": {}}}]},
     "done": False},
    {"model": "m", "response": "x", "done": False},
    {"embeddings": [[1.0, 2.0]], "prompt_eval_count": 2},
    {"models": [{"name": "m", "model": "m", "size": 1, "digest": "d"}]},
    {"capabilities": ["completion"], "model_info": {"fake.context_length": 1}, "details": {"family": "f"}},
    {"version": "1"},
])  # fmt: skip
changes = st.dictionaries(st.sampled_from(names), values, max_size=6)


def changed(value: Any, by: dict[str, Any]) -> Any:
    """The object with other fields, at each of its levels."""
    match value:
        case dict():
            return {k: changed(v, by) for k, v in value.items()} | by
        case list():
            return [changed(v, by) for v in value]
        case _:
            return value


def encoded(value: Any, *, escapes: bool) -> bytes:
    return json.dumps(value, ensure_ascii=escapes).encode("utf-8", "surrogatepass")


objects = st.one_of(good, st.builds(changed, good, changes), st.builds(lambda base, by: {**base, **by}, good, changes))
lines = st.one_of(
    st.builds(encoded, objects, escapes=st.booleans()),
    st.builds(encoded, values, escapes=st.booleans()),
    st.binary(max_size=200),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 20_000, b"\xff\xfe", b"data: {}", b"\x00" * 50, b"1e999", b'{"done":']),
)
answers = st.lists(lines, max_size=4).map(b"\n".join)
OK = b"HTTP/1.1 200 OK\r\n\r\n"
heads = st.sampled_from([
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.1 500 Oh\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 404 No\r\nconnection: close\r\n\r\n",
    b"HTTP/1.1 307 There\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/9.9 rubbish\r\n\r\n",
    b"",
])  # fmt: skip


class Liar:
    """A server that answers every path with `head` and `body`, but for the list of models unless that `lies` too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head, self.body, self.lies = b"", b"", False
        self.bodies: dict[str, bytes] = {}  # by the last part of the path, instead of `body`
        self.step = 0  # bytes at a time; 0: PIECES pieces
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._answer, str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                asked = await reader.readuntil(b"\r\n\r\n")
                if b" /api/tags " in asked and not self.lies:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(TAGS), TAGS))
                else:
                    path = asked.split()[1].decode("latin-1").rpartition("/")[2]
                    data = self.head + self.bodies.get(path, self.body)
                    step = self.step or min(max(1, len(data) // PIECES), 1 << 20)
                    for start in range(0, len(data), step):
                        writer.write(data[start : start + step])
                        await writer.drain()
                await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture(scope="module")
async def liar() -> AsyncIterator[Liar]:
    folder = Path(tempfile.mkdtemp(prefix="h"))
    liar = Liar(folder / "m")
    await liar.start()
    yield liar
    await liar.stop()
    shutil.rmtree(folder)


# What each field is made once, wherever it stands.
NASTY: list[Any] = [
    None, True, -1, 2**31, 2**63, 10**30, -(10**30), 10**400, 1e39, 1e300, math.inf, math.nan, "", "x" * 5000,
    "\ud800", "\x00\x1b[2J\x85\u2028", [], [[]], [None], {}, {"": None}, ["\ud800"], [1e39],
]  # fmt: skip
WHOLE: dict[str, Any] = {
    "chat": {
        "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop", "eval_count": 1,
        "prompt_eval_count": 1, "load_duration": 1, "total_duration": 1, "error": "",
        "message": {"role": "assistant", "content": "x", "thinking": "y", "images": [], "tool_name": "t",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"a": {"b": ["c", 1]}}}}]},
    },
    "generate": {"response": "x", "thinking": "y", "context": [1], "done": True, "done_reason": "stop"},
    "embed": {"model": "m", "embeddings": [[1.0, 2.0]], "prompt_eval_count": 1, "load_duration": 1, "error": ""},
    "tags": {"models": [{"name": "m", "model": "m", "size": 1, "digest": "d", "modified_at": None,
                         "details": {"family": "f", "families": [], "parameter_size": "p"}}]},
    "show": {"capabilities": ["completion"], "model_info": {"fake.context_length": 1}, "license": "l",
             "details": {"family": "f", "parameter_size": "p", "quantization_level": "q"}},
    "version": {"version": "1"},
}  # fmt: skip


def each_with_one_replaced(value: Any, by: Any) -> Iterator[Any]:
    """The value again and again, each time with another of its parts replaced, and at last the whole."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in each_with_one_replaced(inner, by))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from ([*value[:index], other, *value[index + 1 :]] for other in each_with_one_replaced(inner, by))
    yield by


type Call = Callable[[InferenceRpc], Awaitable[Any]]


class Context:
    """What the servicer asks of gRPC."""

    def time_remaining(self) -> float:
        return 8.0


def checked(error: HearthError) -> HearthError:
    """The error, once it is seen to be one for people, and for the wire."""
    assert error.code != "internal"
    assert 0 < len(error.detail) < 1000
    assert error.detail == clean(error.detail)
    error.to_status()
    return error


@asynccontextmanager
async def opened(liar: Liar) -> AsyncIterator[InferenceRpc]:
    """The servicer on that host, which knows nothing of it yet."""
    chosen = InferenceSettings(
        ollama_url=f"unix:{liar.path}",
        model_attempts=1,
        model_first_token_seconds=3,
        model_between_tokens_seconds=3,
        model_breaker_failures=10_000,
        model_list_seconds=3600,
    )
    hosts, checker = Hosts(chosen), SchemaChecker(seconds=1)
    try:
        yield InferenceRpc(Generator(hosts, checker, chosen), EmbeddingModels(hosts, chosen), hosts)
    finally:
        await hosts.close()
        await checker.close()


async def told(rpc: InferenceRpc, call: Call) -> Any:
    """What the call answers, or the HearthError that it ends with. Anything else passes through and fails the test."""
    try:
        async with asyncio.timeout(10):
            return await call(rpc)
    except HearthError as error:
        return checked(error)


async def served(liar: Liar, call: Call) -> Any:
    """As `told`, by a servicer of its own."""
    async with opened(liar) as rpc:
        return await told(rpc, call)


async def chatted(rpc: InferenceRpc) -> list[Any]:
    request = pb.ChatRequest(model="m", messages=[pb.ChatMessage(role="user", content="x")])
    return [item async for item in rpc.Chat(request, Context())]


async def generated(rpc: InferenceRpc) -> list[Any]:
    return [item async for item in rpc.Generate(pb.GenerateRequest(model="m", prompt="x"), Context())]


async def embedded(rpc: InferenceRpc) -> Any:
    return await rpc.Embed(pb.EmbedRequest(model="m", texts=["x"]), Context())


async def listed(rpc: InferenceRpc) -> Any:
    return await rpc.ListModels(pb.ListModelsRequest(), Context())


@FEW
@given(head=heads, body=answers, with_prompt=st.booleans())
@example(head=b"HTTP/1.1 200 OK\r\n\r\n", body=b'{"message":{"content":"x"},"done":false}\n' * 3, with_prompt=False)
async def test_any_answer_to_a_chat_or_a_prompt(liar: Liar, head: bytes, body: bytes, with_prompt: bool) -> None:
    liar.head, liar.body, liar.lies = head, body, False
    items = await served(liar, generated if with_prompt else chatted)
    if not isinstance(items, HearthError):
        assert [item.WhichOneof("item") for item in items].count("done") == 1
        assert items[-1].done.load_seconds >= 0
        for item in items:
            check_call(item.tool_call)


def words_of(value: Any) -> Iterator[str]:
    """Each text in the value."""
    match value:
        case str():
            yield value
        case list():
            for inner in value:
                yield from words_of(inner)
        case dict():
            for key, inner in value.items():
                yield key
                yield from words_of(inner)


def check_call(call: pb.ToolCall) -> None:
    """Whatever the host said, the arguments are an object whose words are clean; of no call they are nothing."""
    assert len(call.name) <= 256
    assert call.name == clean(call.name)
    arguments = orjson.loads(call.arguments or "{}")
    assert type(arguments) is dict
    assert call.arguments in ("", orjson.dumps(arguments).decode())
    for word in words_of(arguments):
        assert word == clean(word)


@FEW
@given(name=values, arguments=values, calls=values)
@example(name="f", arguments={"\x00a": ["\ud800", 1e300, 2**62, True, None]}, calls=None)
async def test_any_tool_call(liar: Liar, name: Any, arguments: Any, calls: Any) -> None:
    call = {"function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "tool_calls": [call] if calls is None else calls}
    end = {"message": {"role": "assistant", "content": "x"}, "done": True}
    lines = (encoded({"message": message, "done": False}, escapes=True), encoded(end, escapes=True))
    liar.head, liar.body, liar.lies = OK, b"\n".join(lines), False
    items = await served(liar, chatted)
    if not isinstance(items, HearthError):
        assert [item.text for item in items if item.text] == ["x"]
        for item in items:
            check_call(item.tool_call)


@FEW
@given(head=heads, body=answers)
async def test_any_answer_to_an_embedding(liar: Liar, head: bytes, body: bytes) -> None:
    liar.head, liar.body, liar.lies = head, body, False
    found = await served(liar, embedded)
    if not isinstance(found, HearthError):
        assert len(found.vectors) == 1
        assert found.vectors[0].values
        assert all(map(math.isfinite, found.vectors[0].values))


@FEW
@given(head=heads, body=answers)
async def test_any_answer_to_what_is_asked_about_the_host(liar: Liar, head: bytes, body: bytes) -> None:
    liar.head, liar.body, liar.lies = head, body, True
    found = await served(liar, listed)
    (host,) = found.hosts
    assert host.reachable is not bool(host.error)
    for model in found.models:
        words = (model.name, model.family, model.parameter_size, model.quantization, *model.capabilities)
        assert all(len(word) <= 256 for word in words)


@FEW
@given(body=answers)
async def test_any_description_of_a_model(liar: Liar, body: bytes) -> None:
    liar.head, liar.body, liar.lies = OK, body, False
    found = await served(liar, listed)
    assert [model.name for model in found.models] in (["m"], [])


@pytest.mark.parametrize("part", WHOLE)
async def test_each_field_is_anything_once(liar: Liar, part: str) -> None:
    call = {"chat": chatted, "generate": generated, "embed": embedded}.get(part, listed)
    whole = {name: encoded(value, escapes=True) for name, value in WHOLE.items()}
    liar.head, liar.lies = OK, part == "tags"
    try:
        async with opened(liar) as rpc:
            for nasty in NASTY:
                for value in each_with_one_replaced(WHOLE[part], nasty):
                    liar.bodies = {**whole, part: encoded(value, escapes=True)}
                    # What was shown of a model is kept, so that another must not know it.
                    found = await (served(liar, call) if part == "show" else told(rpc, call))
                    if part == "embed" and not isinstance(found, HearthError):
                        assert all(map(math.isfinite, found.vectors[0].values)), value
    finally:
        liar.bodies = {}


async def test_a_line_without_an_end_is_given_up(liar: Liar) -> None:
    liar.head, liar.body, liar.lies = OK, b'{"x":"' + b"y" * (20 * 1024 * 1024), False
    assert "a line has more than 16777216 bytes" in (await served(liar, generated)).detail


@pytest.mark.parametrize(
    ("head", "call"), [(b"HTTP/1.1 500 Oh\r\n\r\n", generated), (OK, embedded), (OK, listed)], ids=lambda v: str(v)[:20]
)
async def test_a_body_without_an_end_is_given_up(liar: Liar, head: bytes, call: Any) -> None:
    """Of short lines, so that only the whole is too long."""
    liar.head, liar.body, liar.lies = head, b"\n" * (20 * 1024 * 1024), call is listed
    found = await served(liar, call)
    assert "it has more than 16777216 bytes" in (found.hosts[0].error if call is listed else found.detail)


async def test_what_is_compressed_is_not_unpacked(liar: Liar) -> None:
    body = gzip.compress(b'{"message": {"content": "x"}, "done": true}\n')
    liar.head, liar.body, liar.lies = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", body, False
    assert "compresses its answers" in (await served(liar, chatted)).detail


async def test_what_ends_lines_elsewhere_ends_none_in_json(liar: Liar) -> None:
    """Go leaves U+0085 in strings as it is, and a reader of lines may take it for a line's end."""
    text = "a\x85b\u2028c\u2029d\u00c2\u2030"
    answer = {"message": {"role": "assistant", "content": text}, "done": True}
    for shift in range(8):
        body = encoded({"x": "y" * shift, **answer}, escapes=False)
        liar.head, liar.body, liar.lies, liar.step = OK, body, False, 3
        (text_item, done) = await served(liar, chatted)
        liar.step = 0
        assert (text_item.text, done.done.finish_reason) == ("ab\u2028c\u2029d\u00c2\u2030", "stop")


async def test_an_error_that_is_no_text_is_told_all_the_same(liar: Liar) -> None:
    for error in ([1], {"message": "no"}, None, 7, "no"):
        liar.head, liar.body, liar.lies = b"HTTP/1.1 500 Oh\r\n\r\n", encoded({"error": error}, escapes=True), False
        assert (await served(liar, chatted)).code == "model_host_unavailable"
    for depth in (900, 5000, 200_000):
        liar.body = b'{"error":' + b"[" * depth + b"]" * depth + b"}"
        assert (await served(liar, chatted)).code == "model_host_unavailable"
