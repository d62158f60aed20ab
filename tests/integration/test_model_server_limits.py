"""The embedded model server at its limits: a full context, clients that leave, odd text, its end."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
import psutil
import pytest
from system.waiting import eventually

CHAT, EMBEDDING = "smollm2:135m", "multilingual-e5-small"
CONTEXT_TOKENS = 512
STILL = {"temperature": 0, "seed": 1}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model server's process, and a plain client of it."""

    process: subprocess.Popen[bytes]
    http: httpx.AsyncClient
    scratch: Path

    @property
    def client(self) -> ollama.AsyncClient:
        return ollama.AsyncClient("http://models", transport=self.http._transport)


@asynccontextmanager
async def model_server() -> AsyncIterator[Server]:
    """Starts one on a socket of its own and ends it."""
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        path, scratch = Path(folder) / "m.sock", Path(folder) / "t"
        scratch.mkdir()
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, "-m", "hearth_local.models", "--socket", path, "--context-tokens", str(CONTEXT_TOKENS)],
            env={"PATH": "", "TMPDIR": str(scratch)},
        )
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://models", timeout=90) as http:

            async def answers() -> bool:
                try:
                    return (await http.head("/")).status_code == 200
                except httpx.TransportError:
                    return False

            try:
                await eventually(answers, what="the model server")
                yield Server(process=process, http=http, scratch=scratch)
            finally:
                process.terminate()
                await asyncio.to_thread(process.wait, 10)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    async with model_server() as started:
        yield started


def words(letter: str, count: int) -> str:
    """A prompt of about three tokens a word."""
    return " ".join(f"{letter}{n}" for n in range(count))


# It goes on with the next words, up to a context that leaves little room for others.
ENDLESS: dict[str, Any] = {
    "model": CHAT,
    "raw": True,
    "prompt": words("w", 30),
    "options": {**STILL, "num_predict": CONTEXT_TOKENS - 130},
}


def cpu_seconds(server: Server) -> float:
    """The processor time that the server has taken."""
    return float(sum(psutil.Process(server.process.pid).cpu_times()[:2]))


async def idle(server: Server) -> None:
    """Waits until llama.cpp does nothing."""

    async def still() -> bool:
        before = cpu_seconds(server)
        await asyncio.sleep(0.1)
        return cpu_seconds(server) - before < 0.03

    await eventually(still, what="an idle server")


async def test_conversations_that_do_not_fit_together_wait_for_each_other(server: Server) -> None:
    async def generate(letter: str) -> ollama.GenerateResponse:
        options = {**STILL, "num_predict": 30}
        return await server.client.generate(CHAT, words(letter, 50), raw=True, options=options)

    answers = await asyncio.gather(*(generate(letter) for letter in "abcdef"))
    assert sum((a.prompt_eval_count or 0) + 30 for a in answers[:4]) > CONTEXT_TOKENS
    assert [a.done_reason for a in answers] == ["length"] * 6


async def test_one_after_another_each_may_fill_the_context(server: Server) -> None:
    for letter in "vwxy":
        answer = await server.client.generate(CHAT, words(letter, 100), raw=True, options={**STILL, "num_predict": 2})
        assert (answer.prompt_eval_count or 0) > CONTEXT_TOKENS / 2


async def test_num_ctx_bounds_prompt_and_answer(server: Server) -> None:
    turns = [{"role": "user", "content": words("t", 40)}, {"role": "assistant", "content": "yes"}]
    messages = [{"role": "system", "content": "Be brief."}, *turns, *turns, {"role": "user", "content": "Go on."}]
    options = {**STILL, "num_ctx": 200}
    answer = await server.client.chat(CHAT, messages, options=options)
    assert (answer.prompt_eval_count or 0) < 200
    assert (answer.prompt_eval_count or 0) + (answer.eval_count or 0) <= 200
    refused = await server.http.post(
        "/api/chat", json={"model": CHAT, "messages": messages, "options": options, "truncate": False}
    )
    assert refused.status_code == 400
    assert "context length" in refused.json()["error"]


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_while_its_prompt_is_read_stops_it(server: Server, streams: bool) -> None:
    body = {"model": CHAT, "raw": True, "stream": streams, "options": {"num_predict": 1}}
    await server.client.chat(CHAT, [])
    before = cpu_seconds(server)
    await server.http.post("/api/generate", json={**body, "prompt": words("np"[streams], 140)})
    whole = cpu_seconds(server) - before
    with pytest.raises(httpx.ReadTimeout):
        await server.http.post("/api/generate", json={**body, "prompt": words("lm"[streams], 140)}, timeout=0.5)
    left = cpu_seconds(server)
    await idle(server)
    # llama.cpp ends the batch in hand, about a quarter of this prompt.
    assert cpu_seconds(server) - left < whole / 2


async def test_a_client_that_leaves_while_it_waits_takes_no_turn(server: Server) -> None:
    async with server.http.stream("POST", "/api/generate", json=ENDLESS) as running:
        lines = running.aiter_lines()  # dropping it would end the request
        await anext(lines)
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                await server.http.post("/api/generate", json=ENDLESS, timeout=0.2)
        short = {**ENDLESS, "prompt": "Once", "stream": False, "options": {"num_predict": 2}}
        answer = await server.http.post("/api/generate", json=short)
        assert answer.json()["eval_count"] == 2
        *_, last = [json.loads(line) async for line in lines]
        assert answer.json()["created_at"] < last["created_at"]


async def test_characters_come_whole(server: Server) -> None:
    value = "😀é語 Ж"
    chunks = [
        chunk.message.content or ""
        async for chunk in await server.client.chat(
            CHAT,
            [{"role": "user", "content": "Say it."}],
            format={"type": "object", "properties": {"it": {"const": value}}, "required": ["it"]},
            options={**STILL, "num_predict": 100},
            stream=True,
        )
    ]
    assert json.loads("".join(chunks)) == {"it": value}
    assert not any("\ufffd" in chunk for chunk in chunks)


@pytest.mark.parametrize("temperature", [0, 0.9])
async def test_the_same_seed_gives_the_same_answer(server: Server, temperature: float) -> None:
    messages = [{"role": "user", "content": "Tell me about the sea."}]

    async def chat(seed: int) -> str:
        options = {"temperature": temperature, "seed": seed, "num_predict": 30}
        return (await server.client.chat(CHAT, messages, options=options)).message.content or ""

    assert await chat(7) == await chat(7)
    assert (await chat(7) == await chat(8)) is (temperature == 0)


async def test_generate_goes_on_from_its_context(server: Server) -> None:
    options = {**STILL, "num_predict": 8}
    first = await server.client.generate(CHAT, "My name is Ada.", options=options)
    assert first.context
    second = await server.client.generate(CHAT, "What is my name?", context=list(first.context), options=options)
    assert (second.prompt_eval_count or 0) > len(first.context)


@pytest.mark.parametrize("path", ["/api/chat", "/api/embed"])
async def test_half_a_surrogate_pair_harms_nothing(server: Server, path: str) -> None:
    model = CHAT if path == "/api/chat" else EMBEDDING
    body = '{"model":"%s","input":"a\\ud800","messages":[{"role":"user","content":"a\\ud800"}],%s}'
    answer = await server.http.post(path, content=body % (model, '"stream":false,"options":{"num_predict":1}'))
    assert answer.status_code == 200


async def test_embed_counts_tokens_and_refuses_what_is_too_long_where_asked(server: Server) -> None:
    answer = await server.client.embed(EMBEDDING, ["hello world"])
    assert 3 <= (answer.prompt_eval_count or 0) <= 10
    assert len((await server.client.embed(EMBEDDING, "word " * 600)).embeddings) == 1
    with pytest.raises(ollama.ResponseError, match="exceeds the context length") as caught:
        await server.client.embed(EMBEDDING, "word " * 600, truncate=False)
    assert caught.value.status_code == 400
    assert list((await server.client.embed(EMBEDDING, "")).embeddings) == []
    one = await server.client.embeddings(EMBEDDING, "hello world")
    assert list(one.embedding) == pytest.approx(list(answer.embeddings[0]))


async def test_requests_that_ollama_refuses(server: Server) -> None:
    messages = [{"role": "user", "content": "x"}]
    for path, body, status in [
        ("/api/chat", {"model": CHAT, "messages": messages, "think": True}, 400),
        ("/api/generate", {"model": CHAT, "prompt": "x", "raw": True, "system": "y"}, 400),
        ("/api/generate", {"model": CHAT, "prompt": "x", "context": ["y"]}, 400),
        ("/api/generate", {"prompt": "x"}, 404),
        ("/api/pull", {"model": "llama3"}, 501),
        ("/api/chat", {"model": CHAT, "messages": [{**messages[0], "images": ["aGk="]}]}, 400),
    ]:
        answer = await server.http.post(path, json=body)
        assert (answer.status_code, bool(answer.json()["error"])) == (status, True)
    assert (await server.http.get("/api/nothing")).text == "404 page not found"
    assert (await server.http.get("/api/chat")).status_code == 405
    too_much = await server.http.post("/api/chat", content=b" " * (17 << 20))
    assert too_much.status_code == 413


async def test_it_listens_on_no_port(server: Server) -> None:
    await server.client.chat(CHAT, [])
    assert psutil.Process(server.process.pid).net_connections("inet") == []


async def test_it_ends_within_two_seconds_in_mid_sentence_and_leaves_nothing_behind() -> None:
    async with model_server() as server:
        async with server.http.stream("POST", "/api/generate", json=ENDLESS) as running:
            lines = running.aiter_lines()  # dropping it would end the request
            await anext(lines)
            started = time.monotonic()
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 10) == 0
            assert time.monotonic() - started < 2
        assert list(server.scratch.iterdir()) == []
