"""Ollama's HTTP API: NDJSON streams, statuses and error bodies as its clients expect them."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from hearth_local.models.catalog import Model, catalog, find
from hearth_local.models.chat_model import ChatModel, Finish
from hearth_local.models.embedder import Embedder
from hearth_local.models.protocol import (
    MAX_BATCH,
    ApiError,
    Generation,
    check_keep_alive,
    flag,
    generation,
    messages_of,
    text,
)

VERSION = "0.12.0"  # the release of Ollama whose API this follows
DISCONNECT_POLL_SECONDS = 0.1

type Chunk = dict[str, Any]


def application(chat: ChatModel, embedder: Embedder) -> Starlette:
    """The server over these two models."""
    api = _Api(chat, embedder)
    return Starlette(
        routes=[
            Route("/", _running, methods=["GET", "HEAD"]),
            Route("/api/version", _version, methods=["GET", "HEAD"]),
            Route("/api/tags", _tags, methods=["GET", "HEAD"]),
            Route("/api/ps", api.loaded),
            Route("/api/show", _show, methods=["POST"]),
            Route("/api/chat", api.chat, methods=["POST"]),
            Route("/api/generate", api.generate, methods=["POST"]),
            Route("/api/embed", api.embed, methods=["POST"]),
        ],
        exception_handlers={ApiError: _error},
    )


async def _error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse({"error": error.message}, error.status)


async def _running(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return JSONResponse({"version": VERSION})


async def _tags(_: Request) -> Response:
    models = []
    for model in catalog().values():
        modified = datetime.fromtimestamp(model.file.stat().st_mtime, UTC)
        models.append(
            {
                "name": model.name,
                "model": model.name,
                "modified_at": modified.isoformat(),
                "size": model.size,
                "digest": model.digest,
                "details": model.details,
            }
        )
    return JSONResponse({"models": models})


async def _show(request: Request) -> Response:
    body = await _body(request)
    model = _model(body, name=text(body, "model") or text(body, "name"))
    return JSONResponse(
        {
            "license": model.license,
            "modelfile": f"FROM {model.name}",
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": model.details,
            "model_info": {
                "general.architecture": model.family,
                f"{model.family}.context_length": model.context_tokens,
                f"{model.family}.embedding_length": model.embedding_length,
            },
            "capabilities": list(model.capabilities),
        }
    )


class _Api:
    def __init__(self, chat: ChatModel, embedder: Embedder) -> None:
        self._chat = chat
        self._embedder = embedder

    async def loaded(self, _: Request) -> Response:
        loaded = {"completion": self._chat.is_loaded, "embedding": self._embedder.is_loaded}
        return JSONResponse(
            {
                "models": [
                    {"name": m.name, "model": m.name, "size": m.size, "digest": m.digest, "details": m.details}
                    for m in catalog().values()
                    if loaded[m.capabilities[0]]
                ]
            }
        )

    async def chat(self, request: Request) -> Response:
        body = await _body(request)
        model = _generating(body, verb="chat")
        if body.get("tools"):
            raise ApiError(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        messages = messages_of(body)
        empty = {"message": {"role": "assistant", "content": ""}}
        if not messages:
            return await self._load(body, model, empty)
        return await self._answer(
            request,
            body,
            model,
            generation(body, messages=messages),
            piece=lambda content: {"message": {"role": "assistant", "content": content}},
        )

    async def generate(self, request: Request) -> Response:
        body = await _body(request)
        model = _generating(body, verb="generate")
        if text(body, "suffix"):
            raise ApiError(400, f"registry.ollama.ai/library/{model.name} does not support insert")
        if body.get("images"):
            raise ApiError(400, "this model is missing data required for image input")
        if text(body, "template") or body.get("context"):
            raise ApiError(400, "template and context are not supported here: use /api/chat")
        prompt = text(body, "prompt")
        if not prompt:
            return await self._load(body, model, {"response": ""})
        system = text(body, "system")
        if flag(body, "raw", default=False):
            wanted = generation(body, messages=(), prompt=prompt)
        else:
            turns = ({"role": "system", "content": system},) if system else ()
            wanted = generation(body, messages=(*turns, {"role": "user", "content": prompt}))
        return await self._answer(request, body, model, wanted, piece=lambda content: {"response": content})

    async def embed(self, request: Request) -> Response:
        body = await _body(request)
        model = _model(body, name=text(body, "model"))
        if "embedding" not in model.capabilities:
            raise ApiError(501, "this model does not support embeddings")
        check_keep_alive(body)
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise ApiError(400, "invalid input type")
        if len(texts) > MAX_BATCH:
            raise ApiError(400, f"input has {len(texts)} texts: at most {MAX_BATCH} at once")
        dimensions = body.get("dimensions", 0)
        if not isinstance(dimensions, int) or not 0 <= dimensions <= model.embedding_length:
            raise ApiError(400, f"dimensions must be at most {model.embedding_length}")
        started = time.perf_counter_ns()
        load_duration = await self._embedder.load()
        vectors = await self._embedder.embed(texts)
        if dimensions:
            vectors = [_shortened(v, dimensions) for v in vectors]
        return JSONResponse(
            {
                "model": text(body, "model"),
                "embeddings": vectors,
                "total_duration": time.perf_counter_ns() - started,
                "load_duration": load_duration,
                # The embedder does not say how it split its input: words are the nearest count.
                "prompt_eval_count": sum(len(t.split()) for t in texts),
            }
        )

    async def _load(self, body: Chunk, model: Model, empty: Chunk) -> Response:
        """A request without a prompt only loads, or unloads, the model."""
        unload = check_keep_alive(body) == 0
        if not unload:
            await self._chat.load()
        reason = "unload" if unload else "load"
        return JSONResponse({**_stamp(body), **empty, "done": True, "done_reason": reason})

    async def _answer(
        self, request: Request, body: Chunk, model: Model, wanted: Generation, *, piece: Callable[[str], Chunk]
    ) -> Response:
        check_keep_alive(body)
        chunks = self._chunks(body, wanted, piece)
        # What fails before the first piece has a status of its own; later it is a line of the stream.
        first = await anext(chunks)
        if flag(body, "stream", default=True):
            return StreamingResponse(_lines(first, chunks), media_type="application/x-ndjson")
        return JSONResponse(await _until_disconnected(request, _whole(first, chunks, piece)))

    async def _chunks(self, body: Chunk, wanted: Generation, piece: Callable[[str], Chunk]) -> AsyncGenerator[Chunk]:
        started = time.perf_counter_ns()
        async with aclosing(self._chat.generate(wanted)) as items:
            async for item in items:
                if isinstance(item, str):
                    yield {**_stamp(body), **piece(item), "done": False}
                else:
                    yield {**_stamp(body), **piece(""), **_end(item, time.perf_counter_ns() - started)}


async def _body(request: Request) -> Chunk:
    raw = await request.body()
    if not raw:
        raise ApiError(400, "missing request body")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, f"invalid request body: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "invalid request body: not an object")
    return body


def _model(body: Chunk, *, name: str) -> Model:
    if not name:
        raise ApiError(400, "model is required")
    model = find(name)
    if model is None:
        raise ApiError(404, f"model '{name}' not found")
    return model


def _generating(body: Chunk, *, verb: str) -> Model:
    model = _model(body, name=text(body, "model"))
    if "completion" not in model.capabilities:
        raise ApiError(400, f'"{text(body, "model")}" does not support {verb}')
    return model


def _stamp(body: Chunk) -> Chunk:
    return {"model": text(body, "model"), "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _end(finish: Finish, total: int) -> Chunk:
    return {
        "done": True,
        "done_reason": finish.reason,
        "total_duration": total,
        "load_duration": finish.load_duration,
        "prompt_eval_count": finish.prompt_tokens,
        "prompt_eval_duration": finish.prompt_duration,
        "eval_count": finish.tokens,
        "eval_duration": finish.duration,
    }


async def _lines(first: Chunk, chunks: AsyncGenerator[Chunk]) -> AsyncIterator[bytes]:
    try:
        yield _line(first)
        async with aclosing(chunks) as rest:
            async for chunk in rest:
                yield _line(chunk)
    except ApiError as error:
        yield _line({"error": error.message})


def _line(chunk: Chunk) -> bytes:
    return json.dumps(chunk, ensure_ascii=False).encode() + b"\n"


async def _whole(first: Chunk, chunks: AsyncGenerator[Chunk], piece: Callable[[str], Chunk]) -> Chunk:
    collected = [first]
    async with aclosing(chunks) as rest:
        collected += [chunk async for chunk in rest]
    pieces = [c["message"]["content"] if "message" in c else c["response"] for c in collected]
    return {**collected[-1], **piece("".join(pieces))}


async def _until_disconnected(request: Request, work: Awaitable[Chunk]) -> Chunk:
    """Awaits `work`, and gives it up where the client has gone."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=DISCONNECT_POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                break
        else:
            return task.result()
    finally:
        task.cancel()
    raise ApiError(499, "the client has gone")


def _shortened(vector: list[float], dimensions: int) -> list[float]:
    """The first values, at length 1 again."""
    head = vector[:dimensions]
    norm = sum(v * v for v in head) ** 0.5
    return [v / norm for v in head] if norm else head
