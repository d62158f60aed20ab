"""Whatever "Ollama" sends, what comes out is an answer or a typed error: nothing else, and soon."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hearth_runtime.errors import HearthError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inference_service.answer import Done
from inference_service.embedding import EmbeddingModels
from inference_service.generation import Generator
from inference_service.generation_request import Message, Options, Request
from inference_service.hosts import Hosts
from inference_service.output_schema import SchemaChecker
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
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["stop", "load", "1" * 400])
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = (
    "model", "created_at", "message", "response", "done", "done_reason", "eval_count", "prompt_eval_count",
    "load_duration", "total_duration", "context", "embeddings", "models", "version", "error", "capabilities",
    "model_info", "details",
)  # fmt: skip
good = st.sampled_from([
    {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    {"model": "m", "response": "x", "done": False},
    {"embeddings": [[1.0, 2.0]], "prompt_eval_count": 2},
    {"models": [{"name": "m", "model": "m", "size": 1}]},
    {"version": "1"},
])  # fmt: skip
objects = st.builds(lambda base, changes: {**base, **changes}, good, st.dictionaries(st.sampled_from(names), values))
lines = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=200),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 20_000, b"\xff\xfe", b"data: {}", b"\x00" * 50, b"1e999", b'{"done":']),
)
answers = st.lists(lines, max_size=4).map(b"\n".join)
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
                    data = self.head + self.body
                    step = max(1, len(data) // PIECES)
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


def settings_for(liar: Liar) -> InferenceSettings:
    return InferenceSettings(
        ollama_url=f"unix:{liar.path}",
        model_attempts=1,
        model_first_token_seconds=3,
        model_between_tokens_seconds=3,
        model_breaker_failures=10_000,
        model_list_seconds=3600,
    )


def code_of(error: HearthError) -> str:
    """Its code, once it is seen to be one for people."""
    assert error.code != "internal"
    assert 0 < len(error.detail) < 1000
    assert "\x00" not in error.detail
    return error.code


async def generated(liar: Liar, request: Request) -> list[Any]:
    """All items, or the error's code. Anything but a HearthError passes through and fails the test."""
    chosen = settings_for(liar)
    hosts, checker = Hosts(chosen), SchemaChecker(seconds=1)
    try:
        async with asyncio.timeout(10):
            return [item async for item in Generator(hosts, checker, chosen).generate(request)]
    except HearthError as error:
        return [code_of(error)]
    finally:
        await hosts.close()
        await checker.close()


@FEW
@given(head=heads, body=answers, with_prompt=st.booleans())
@example(head=b"HTTP/1.1 200 OK\r\n\r\n", body=b'{"message":{"content":"x"},"done":false}\n' * 3, with_prompt=False)
async def test_any_answer_to_a_chat_or_a_prompt(liar: Liar, head: bytes, body: bytes, with_prompt: bool) -> None:
    liar.head, liar.body, liar.lies = head, body, False
    asked: dict[str, Any] = {"prompt": "x"} if with_prompt else {"messages": (Message(role="user", content="x"),)}
    items = await generated(liar, Request(models=("m",), options=Options(), fair_key="k", **asked))
    assert items
    for item in items:
        if isinstance(item, Done):
            assert 0 <= item.completion_tokens < 2**31
            assert 0 <= item.prompt_tokens < 2**31
            assert item.load_seconds >= 0


@FEW
@given(head=heads, body=answers)
async def test_any_answer_to_an_embedding(liar: Liar, head: bytes, body: bytes) -> None:
    liar.head, liar.body, liar.lies = head, body, False
    chosen = settings_for(liar)
    hosts = Hosts(chosen)
    try:
        async with asyncio.timeout(10):
            found = await EmbeddingModels(hosts, chosen).embed("m", ["x"], fair_key="k", seconds=5)
        assert len(found.vectors) == 1
        assert all(isinstance(number, float) for number in found.vectors[0])
    except HearthError as error:
        code_of(error)
    finally:
        await hosts.close()


@FEW
@given(head=heads, body=answers)
async def test_any_answer_to_what_is_asked_about_the_host(liar: Liar, head: bytes, body: bytes) -> None:
    liar.head, liar.body, liar.lies = head, body, True
    hosts = Hosts(settings_for(liar))
    try:
        async with asyncio.timeout(10):
            models, (host,) = await hosts.models()
        assert all(isinstance(model.name, str) for model in models)
        assert host.reachable is not bool(host.error)
    finally:
        await hosts.close()


async def test_a_line_without_an_end_is_given_up(liar: Liar) -> None:
    liar.head, liar.body, liar.lies = b"HTTP/1.1 200 OK\r\n\r\n", b'{"x":"' + b"y" * (20 * 1024 * 1024), False
    request = Request(models=("m",), prompt="x", options=Options(), fair_key="k")
    assert await generated(liar, request) == ["model_host_unavailable"]
