"""The embedded model server, spoken to by Ollama's own client library as if it were Ollama."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from system.waiting import eventually

CHAT, EMBEDDING = "smollm2:135m", "multilingual-e5-small"
COLOURS = [{"role": "user", "content": "Name three colours."}]
STILL = {"temperature": 0, "seed": 1, "num_predict": 12}


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of a server of its own."""
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        path = Path(folder) / "m.sock"
        command = [sys.executable, "-m", "hearth_local.models", "--socket", str(path), "--context-tokens", "1024"]
        process = subprocess.Popen(command)  # noqa: ASYNC220 - it returns at once
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://models", timeout=60) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/")).text == "Ollama is running"
                except httpx.TransportError:
                    return False

            await eventually(answers, what="the model server")
            yield client
            started = time.monotonic()
            process.terminate()
            await asyncio.to_thread(process.wait, 10)
            assert time.monotonic() - started < 2


@pytest.fixture
def client(server: httpx.AsyncClient) -> ollama.AsyncClient:
    """Ollama's library, over the same connections."""
    return ollama.AsyncClient("http://models", transport=server._transport)


async def test_a_chat_streams_pieces_and_ends_with_its_counts(client: ollama.AsyncClient) -> None:
    chunks = [c async for c in await client.chat(CHAT, COLOURS, stream=True, options=STILL)]
    assert all(c.model == CHAT and c.message.role == "assistant" for c in chunks)
    assert [c.done for c in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert last.done_reason == "length"
    assert last.eval_count == 12
    assert (last.prompt_eval_count or 0) > 10
    assert (last.total_duration or 0) >= (last.eval_duration or 0) > 0
    whole = await client.chat(CHAT, COLOURS, options=STILL)
    assert whole.message.content == "".join(c.message.content or "" for c in chunks)
    assert whole.done_reason == "length"


async def test_a_stop_ends_it(client: ollama.AsyncClient) -> None:
    answer = await client.chat(CHAT, COLOURS, options={**STILL, "num_predict": 100, "stop": [" "]})
    assert answer.done_reason == "stop"
    assert " " not in (answer.message.content or "")


async def test_generate_with_and_without_a_template(client: ollama.AsyncClient) -> None:
    answer = await client.generate(CHAT, "Name a colour.", system="You are brief.", options=STILL)
    assert answer.response
    raw = await client.generate(CHAT, "Once upon a", raw=True, options=STILL)
    assert (raw.response or "").startswith(" time")


async def test_a_schema_holds(client: ollama.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer"}},
        "required": ["colour", "n"],
    }
    answer = await client.chat(CHAT, COLOURS, format=schema, options={"num_predict": 60})
    value = json.loads(answer.message.content or "")
    assert value["colour"] in ("red", "blue")
    assert isinstance(value["n"], int)


async def test_an_empty_request_loads_and_unloads(client: ollama.AsyncClient) -> None:
    assert (await client.chat(CHAT, [])).done_reason == "load"
    assert CHAT in {m.model for m in (await client.ps()).models}
    assert (await client.generate(CHAT, "", keep_alive=0)).done_reason == "unload"
    assert CHAT not in {m.model for m in (await client.ps()).models}
    again = await client.chat(CHAT, COLOURS, options=STILL)
    assert (again.total_duration or 0) > (again.load_duration or 0) > 0
    assert (await client.chat(CHAT, COLOURS, options=STILL)).load_duration == 0


async def test_embeddings_are_near_for_what_is_near(client: ollama.AsyncClient) -> None:
    texts = ["passage: The cat sleeps.", "passage: A kitten is asleep.", "passage: Interest rates rose again."]
    answer = await client.embed(EMBEDDING, texts)
    assert [len(v) for v in answer.embeddings] == [384] * 3
    cat, kitten, rates = answer.embeddings

    def cosine(a: Any, b: Any) -> float:
        return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))

    assert cosine(cat, cat) == pytest.approx(1, abs=1e-3)
    assert cosine(cat, kitten) > cosine(cat, rates)
    bare = await client.embed(EMBEDDING, "The cat sleeps.")
    assert list(bare.embeddings[0]) == pytest.approx(list(cat))
    question = await client.embed(EMBEDDING, "query: The cat sleeps.")
    assert list(question.embeddings[0]) != pytest.approx(list(cat))
    short = await client.embed(EMBEDDING, "a", dimensions=8)
    assert cosine(short.embeddings[0], short.embeddings[0]) == pytest.approx(1)


async def test_the_lists(client: ollama.AsyncClient) -> None:
    assert {m.model for m in (await client.list()).models} == {CHAT, f"{EMBEDDING}:latest"}
    shown = await client.show(CHAT)
    assert shown.capabilities == ["completion"]
    assert (shown.modelinfo or {})["llama.context_length"] == 8192
    assert (await client.show(EMBEDDING)).capabilities == ["embedding"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/chat", {"model": "nope", "messages": COLOURS}, 404, "model 'nope' not found"),
        ("/api/show", {"model": "nope"}, 404, "not found"),
        ("/api/chat", {"model": CHAT, "messages": COLOURS, "tools": [{}]}, 400, "does not support tools"),
        ("/api/chat", {"model": EMBEDDING, "messages": COLOURS}, 400, "does not support chat"),
        ("/api/generate", {"model": EMBEDDING, "prompt": "x"}, 400, "does not support generate"),
        ("/api/embed", {"model": CHAT, "input": "x"}, 501, "does not support embeddings"),
        ("/api/embed", {"model": EMBEDDING, "input": 7}, 400, "input"),
        ("/api/embed", {"model": EMBEDDING, "input": "x", "dimensions": 999}, 400, "384"),
        ("/api/chat", {"messages": COLOURS}, 400, "model is required"),
        ("/api/chat", {"model": CHAT, "messages": COLOURS, "format": {"type": "nonsense"}}, 400, "schema"),
        ("/api/generate", {"model": CHAT, "prompt": "x", "suffix": "y"}, 400, "does not support insert"),
        ("/api/chat", {"model": CHAT, "messages": [{"role": "user", "content": "x " * 2_000}]}, 400, "context"),
    ],
)
async def test_errors_are_ollamas(
    server: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await server.post(path, json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
async def test_rubbish_is_400(server: httpx.AsyncClient, content: bytes) -> None:
    answer = await server.post("/api/chat", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_a_long_conversation_loses_its_oldest_messages_first(client: ollama.AsyncClient) -> None:
    old = [{"role": "user", "content": "word " * 700}, {"role": "assistant", "content": "yes " * 700}]
    messages = [{"role": "system", "content": "Be brief."}, *old, *old, *COLOURS]
    answer = await client.chat(CHAT, messages, options=STILL)
    assert 0 < (answer.prompt_eval_count or 0) < 1024


async def test_clients_that_go_away_free_their_slots(server: httpx.AsyncClient) -> None:
    body = {"model": CHAT, "messages": COLOURS, "options": {"num_predict": 900}}

    async def look_and_go() -> None:
        async with server.stream("POST", "/api/chat", json=body) as answer:
            await anext(answer.aiter_lines())

    await asyncio.gather(*(look_and_go() for _ in range(8)))
    async with asyncio.timeout(5):
        answer = await server.post("/api/chat", json={**body, "stream": False, "options": {"num_predict": 3}})
    assert answer.json()["eval_count"] == 3
