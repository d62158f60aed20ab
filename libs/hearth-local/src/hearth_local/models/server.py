"""Ollama's HTTP API: its routes, statuses and error bodies as its clients expect them.

Source: https://github.com/ollama/ollama/blob/main/server/routes.go
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hearth_local.models.answers import Chunk, answer, body_of, end, stamp, while_connected
from hearth_local.models.catalog import FULL_NAME, Model, catalog, find
from hearth_local.models.chat_model import ChatModel
from hearth_local.models.embedder import Embedder
from hearth_local.models.protocol import (
    MAX_BATCH,
    NO_IMAGES,
    ApiError,
    Generation,
    check_keep_alive,
    flag,
    generation,
    messages_of,
    read,
    text,
)

VERSION = "0.12.0"  # the release of Ollama whose API this follows
FOREVER = timedelta(days=365 * 290)  # about the longest duration that Go, and so Ollama, can say
CLIENT_CLOSED_REQUEST = 499
FIXED = "the embedded model server has a fixed set of models: set OLLAMA_URL to use an Ollama of your own"


def application(chat: ChatModel, embedder: Embedder) -> Starlette:
    """The server over these two models."""
    api = _Api(chat, embedder)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await chat.unload()

    return Starlette(
        routes=[
            Route("/", _running),
            Route("/api/version", _version),
            Route("/api/tags", _tags),
            Route("/api/ps", api.loaded),
            Route("/api/show", _show, methods=["POST"]),
            Route("/api/chat", api.chat, methods=["POST"]),
            Route("/api/generate", api.generate, methods=["POST"]),
            Route("/api/embed", api.embed, methods=["POST"]),
            Route("/api/embeddings", api.embed_one, methods=["POST"]),
            *(Route(f"/api/{name}", _fixed, methods=["POST"]) for name in ("pull", "push", "create", "copy")),
            Route("/api/delete", _fixed, methods=["DELETE"]),
        ],
        exception_handlers={ApiError: _error, ClientDisconnect: _gone, HTTPException: _no_route},
        lifespan=lifespan,
    )


async def _error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse({"error": error.message}, error.status)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(
        f"{error.status_code} {_ROUTE_ERRORS.get(error.status_code, error.detail)}", error.status_code
    )


_ROUTE_ERRORS = {404: "page not found", 405: "method not allowed"}


async def _fixed(_: Request) -> Response:
    return JSONResponse({"error": FIXED}, 501)


async def _running(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return JSONResponse({"version": VERSION})


async def _tags(_: Request) -> Response:
    return JSONResponse(
        {
            "models": [
                {
                    "name": model.name,
                    "model": model.name,
                    "modified_at": model.modified_at,
                    "size": model.size,
                    "digest": model.digest,
                    "details": model.details,
                }
                for model in catalog().values()
            ]
        }
    )


async def _show(request: Request) -> Response:
    body = read(await body_of(request))
    name = text(body, "model") or text(body, "name")
    model = _model(name, found_as=name if ":" in name else f"{name}:latest")
    return JSONResponse(
        {
            "license": model.license,
            "modelfile": f"FROM {model.name}",
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": model.details,
            "model_info": model.info,
            "capabilities": list(model.capabilities),
            "modified_at": model.modified_at,
        }
    )


class _Api:
    def __init__(self, chat: ChatModel, embedder: Embedder) -> None:
        self._chat = chat
        self._embedder = embedder

    async def loaded(self, _: Request) -> Response:
        loaded = {"completion": self._chat.is_loaded, "embedding": self._embedder.is_loaded}
        context = {"completion": self._chat.context_tokens}
        return JSONResponse(
            {
                "models": [
                    {
                        "name": m.name,
                        "model": m.name,
                        "size": m.size,
                        "digest": m.digest,
                        "details": m.details,
                        "expires_at": (datetime.now(UTC) + FOREVER).isoformat(),
                        "size_vram": 0,
                        "context_length": context.get(m.capabilities[0], m.context_tokens),
                    }
                    for m in catalog().values()
                    if loaded[m.capabilities[0]]
                ]
            }
        )

    async def chat(self, request: Request) -> Response:
        body = read(await body_of(request))
        model = _generating(body, verb="chat", missing_name=(400, "model is required"))
        if body.get("tools"):
            raise ApiError(400, f"{FULL_NAME}{model.name} does not support tools")
        messages = messages_of(body)
        if not messages:
            return await self._load(body, {"message": {"role": "assistant", "content": ""}})
        return await self._answer(
            request,
            body,
            generation(body, messages=messages),
            piece=lambda content: {"message": {"role": "assistant", "content": content}},
        )

    async def generate(self, request: Request) -> Response:
        body = read(await body_of(request))
        model = _generating(body, verb="generate", missing_name=(404, "model '' not found"))
        system, raw = text(body, "system"), flag(body, "raw", default=False)
        if raw and (system or text(body, "template") or body.get("context")):
            raise ApiError(400, "raw mode does not support template, system, or context")
        if text(body, "suffix"):
            raise ApiError(400, f"{FULL_NAME}{model.name} does not support insert")
        if body.get("images"):
            raise ApiError(400, NO_IMAGES)
        if text(body, "template"):
            raise ApiError(400, "template is not supported here: send raw, or use /api/chat")
        prompt = text(body, "prompt")
        if not prompt:
            return await self._load(body, {"response": ""})
        if raw:
            wanted = generation(body, messages=(), prompt=prompt)
        else:
            turns = ({"role": "system", "content": system},) if system else ()
            wanted = generation(body, messages=(*turns, {"role": "user", "content": prompt}), remembers=True)
        return await self._answer(request, body, wanted, piece=lambda content: {"response": content})

    async def embed(self, request: Request) -> Response:
        body = read(await body_of(request))
        model = _embedding(body)
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise ApiError(400, "invalid input type")
        if len(texts) > MAX_BATCH:
            raise ApiError(400, f"input has {len(texts)} texts: at most {MAX_BATCH} at once")
        dimensions = body.get("dimensions") or 0
        if type(dimensions) is not int or not 0 <= dimensions <= model.embedding_length:
            raise ApiError(400, f"dimensions must be at most {model.embedding_length}")
        started = time.perf_counter_ns()
        load_duration = await self._embedder.load()
        # As Ollama has it, a single empty string only loads the model.
        texts = [] if given == "" else texts
        limit = None if flag(body, "truncate", default=True) else model.context_tokens
        made = await while_connected(request, self._embedder.embed(texts, limit=limit))
        vectors = [_shortened(v, dimensions) for v in made.vectors] if dimensions else made.vectors
        return JSONResponse(
            {
                "model": text(body, "model"),
                "embeddings": vectors,
                "total_duration": time.perf_counter_ns() - started,
                "load_duration": load_duration,
                "prompt_eval_count": made.tokens,
            }
        )

    async def embed_one(self, request: Request) -> Response:
        """Ollama's older call, which its library still has."""
        body = read(await body_of(request))
        _embedding(body)
        prompt = text(body, "prompt")
        made = await while_connected(request, self._embedder.embed([prompt] if prompt else []))
        return JSONResponse({"embedding": made.vectors[0] if made.vectors else []})

    async def _load(self, body: Chunk, empty: Chunk) -> Response:
        """A request without a prompt only loads, or unloads, the model."""
        unload = check_keep_alive(body) == 0
        await (self._chat.unload() if unload else self._chat.load())
        reason = "unload" if unload else "load"
        return JSONResponse({**stamp(text(body, "model")), **empty, "done": True, "done_reason": reason})

    async def _answer(
        self, request: Request, body: Chunk, wanted: Generation, *, piece: Callable[[str], Chunk]
    ) -> Response:
        unload_after = check_keep_alive(body) == 0
        chunks = self._chunks(text(body, "model"), wanted, piece, unload_after=unload_after)
        return await answer(request, chunks, streams=flag(body, "stream", default=True), piece=piece)

    async def _chunks(
        self, name: str, wanted: Generation, piece: Callable[[str], Chunk], *, unload_after: bool
    ) -> AsyncGenerator[Chunk]:
        started = time.perf_counter_ns()
        async with aclosing(self._chat.generate(wanted)) as items:
            async for item in items:
                if isinstance(item, str):
                    yield {**stamp(name), **piece(item), "done": False}
                else:
                    if unload_after:
                        await self._chat.unload()
                    yield {**stamp(name), **piece(""), **end(item, time.perf_counter_ns() - started)}


def _model(name: str, *, missing_name: tuple[int, str] = (400, "model is required"), found_as: str = "") -> Model:
    if not name:
        raise ApiError(*missing_name)
    model = find(name)
    if model is None:
        raise ApiError(404, f"model '{found_as or name}' not found")
    return model


def _generating(body: Chunk, *, verb: str, missing_name: tuple[int, str]) -> Model:
    name = text(body, "model")
    model = _model(name, missing_name=missing_name)
    if "completion" not in model.capabilities:
        raise ApiError(400, f'"{name}" does not support {verb}')
    if body.get("think"):
        raise ApiError(400, f'"{name}" does not support thinking')
    if body.get("logprobs"):
        raise ApiError(400, "logprobs are not supported here")
    return model


def _embedding(body: Chunk) -> Model:
    model = _model(text(body, "model"), missing_name=(404, "model '' not found"))
    if "embedding" not in model.capabilities:
        raise ApiError(501, "this model does not support embeddings")
    check_keep_alive(body)
    return model


def _shortened(vector: list[float], dimensions: int) -> list[float]:
    """The first values, at length 1 again."""
    head = vector[:dimensions]
    norm = sum(v * v for v in head) ** 0.5
    return [v / norm for v in head] if norm else head
