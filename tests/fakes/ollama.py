"""A model host that can be made to fail: it speaks Ollama's protocol and has no model.

async with FakeOllama() as fake:
    fake.behave("m", Behaviour(status=500, error="out of memory"), Behaviour(pieces=("fine",)))
    ...  # with OLLAMA_URL=fake.url
    assert [r.disconnected for r in fake.requests["m"]] == [False, False]
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from system.instance import free_port


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a model does when it is asked. The default answers "one two three" at once."""

    pieces: tuple[str, ...] = ("one", " two", " three")
    # What it answers to a request's body instead of the pieces: a text, or a call of a tool.
    says: "Callable[[dict[str, Any]], str | dict[str, Any]] | None" = None
    after: asyncio.Event | None = None  # nothing comes before it is set
    seconds_before_first: float = 0.0
    seconds_between: float = 0.0
    thinking: int = 0  # so many chunks with a thought and no text come before the pieces
    status: int = 200  # another one is answered instead of pieces, with `error`
    error: str = "no"
    stall_after: int | None = None  # so many pieces, then silence
    cut_after: int | None = None  # so many pieces, then the connection is cut
    end_after: int | None = None  # so many pieces, then the stream ends without `done`
    error_after: int | None = None  # so many pieces, then an error line
    rubbish_after: int | None = None  # so many pieces, then `rubbish`
    rubbish: bytes = b"<html>rubbish\n"
    done_reason: str = "stop"
    load_seconds: float = 2.0  # as the last chunk says; nothing waits for it
    tool_calls: tuple[dict[str, Any], ...] = ()  # come whole in a chunk of a chat, after the pieces: see `called`
    prompt_tokens: int = 7
    too_long: bool = False  # the prompt does not fit: it is refused where `truncate` is false
    # For /api/embed; by default the vector of a text is (its length, 1).
    vectors: tuple[tuple[float, ...], ...] | None = None
    # As Ollama, it refuses images without "vision", tools without "tools" and `think` without "thinking".
    capabilities: tuple[str, ...] = ("completion",)
    # What it does in the place of this once it was shown so many results of tools: the first after one, and so on.
    after_results: "tuple[Behaviour, ...]" = ()


def called(name: str, **arguments: Any) -> dict[str, Any]:
    """A call for `Behaviour.tool_calls`."""
    return {"function": {"name": name, "arguments": arguments}}


@dataclass(kw_only=True)
class Received:
    """A request for a model, and how it went on. Times are the event loop's."""

    path: str
    body: dict[str, Any]
    at: float
    finished: bool = False  # it was answered as the behaviour says, to the end
    disconnected: bool = False  # the client went away before
    done: asyncio.Event = field(default_factory=asyncio.Event)  # one of both has come
    done_at: float = 0.0

    def end(self, *, finished: bool) -> None:
        """It is over."""
        self.finished, self.disconnected = finished, not finished
        self.done_at = asyncio.get_running_loop().time()
        self.done.set()


class FakeOllama:
    """Use it as a context: it serves on a port of its own, which stays the same over `stop` and `start`.

    With `socket` it serves on that unix socket instead. It has the models that `behave` was called for. With several
    behaviours a model shows one after another, and the last one from then on. `requests` holds what came in for a
    model as it was named (/api/chat, /api/generate and /api/embed), whether it is there or not. While `silent` is set,
    the host takes questions about itself (/api/tags, /api/version, /api/show) and answers none.
    """

    def __init__(self, *, socket: Path | None = None) -> None:
        self.port = 0 if socket is not None else free_port()
        self.url = f"unix:{socket}" if socket is not None else f"http://127.0.0.1:{self.port}"
        self.requests: dict[str, list[Received]] = defaultdict(list)
        self.questions: list[str] = []  # the paths of what was asked about the host itself
        self.silent = False
        self._socket = socket
        self._behaviours: dict[str, list[Behaviour]] = {}
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "FakeOllama":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def behave(self, model: str, *behaviours: Behaviour) -> None:
        """Makes the model, or changes it, and forgets its requests."""
        self._behaviours[model] = list(behaviours or (Behaviour(),))
        self.requests[model] = []

    def remove(self, model: str) -> None:
        """Takes the model away."""
        self._behaviours.pop(model, None)

    async def start(self) -> None:
        """Serves, from here on."""
        app = Starlette(
            routes=[
                Route("/api/version", self._version),
                Route("/api/tags", self._tags),
                Route("/api/show", self._show, methods=["POST"]),
                Route("/api/chat", self._generate, methods=["POST"]),
                Route("/api/generate", self._generate, methods=["POST"]),
                Route("/api/embed", self._embed, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(
            app,
            uds=str(self._socket) if self._socket is not None else None,
            host="127.0.0.1",
            port=self.port,
            log_level="critical",
            lifespan="off",
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Cuts all connections and serves no more, until `start`."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        # Until it listens no more others come, and it would serve them, and not end before they do.
        while not self._serving.done():
            for connection in list(self._server.server_state.connections):
                if (transport := getattr(connection, "transport", None)) is not None:
                    transport.abort()
            await asyncio.sleep(0.01)
        await self._serving
        self._server = None

    async def _asked(self, request: Request) -> None:
        self.questions.append(request.url.path)
        if self.silent:
            await _disconnect(request)

    async def _version(self, request: Request) -> Response:
        await self._asked(request)
        return JSONResponse({"version": "0.0.0-fake"})

    async def _tags(self, request: Request) -> Response:
        await self._asked(request)
        details = {"family": "fake", "parameter_size": "0", "quantization_level": "none"}
        models = [
            {
                "name": name,
                "model": name,
                "size": 1,
                "digest": f"{name} {behaviours[0].capabilities}",  # as of a model that was made anew
                "modified_at": _now(),
                "details": details,
            }
            for name, behaviours in self._behaviours.items()
        ]
        return JSONResponse({"models": models})

    async def _show(self, request: Request) -> Response:
        model = (await request.json())["model"]
        await self._asked(request)
        if model not in self._behaviours:
            return _refusal({"model": model}, None)
        return JSONResponse(
            {
                "details": {"family": "fake", "parameter_size": "1M", "quantization_level": "Q0"},
                "model_info": {"fake.context_length": 4096},
                "capabilities": self._behaviours[model][0].capabilities,
            }
        )

    async def _embed(self, request: Request) -> Response:
        body = await request.json()
        behaviour, received = self._received(request, body)
        if behaviour is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(behaviour.seconds_before_first):
                    await _disconnect(request)
                    received.end(finished=False)
        if not received.disconnected:
            received.end(finished=True)
        if behaviour is None or behaviour.status != 200:
            return _refusal(body, behaviour)
        if "embedding" not in behaviour.capabilities:
            return JSONResponse({"error": "this model does not support embeddings"}, 501)
        vectors = behaviour.vectors or [(float(len(text)), 1.0) for text in body["input"]]
        return JSONResponse({"model": body["model"], "embeddings": vectors, "prompt_eval_count": len(body["input"])})

    async def _generate(self, request: Request) -> Response:
        body = await request.json()
        behaviour, received = self._received(request, body)
        if behaviour is None or behaviour.status != 200:
            received.end(finished=True)
            return _refusal(body, behaviour)
        if (error := _incapable(body, behaviour)) is not None:
            received.end(finished=True)
            return error
        return StreamingResponse(self._stream(request, body, behaviour, received), media_type="application/x-ndjson")

    def _received(self, request: Request, body: dict[str, Any]) -> tuple[Behaviour | None, Received]:
        received = Received(path=request.url.path, body=body, at=asyncio.get_running_loop().time())
        self.requests[body["model"]].append(received)
        behaviours = self._behaviours.get(body["model"]) or self._behaviours.get(f"{body['model']}:latest")
        if behaviours is None:
            return None, received
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        results = [m for m in body.get("messages", ()) if m["role"] == "tool"]
        if results and behaviour.after_results:
            behaviour = behaviour.after_results[min(len(results), len(behaviour.after_results)) - 1]
        return behaviour, received

    async def _stream(
        self, request: Request, body: dict[str, Any], behaviour: Behaviour, received: Received
    ) -> AsyncIterator[bytes]:
        chat = request.url.path == "/api/chat"

        def line(text: str, *, thinking: str | None = None, tool_calls: Any = None, **rest: Any) -> bytes:
            more = {k: v for k, v in (("thinking", thinking), ("tool_calls", tool_calls)) if v is not None}
            piece = {"message": {"role": "assistant", "content": text, **more}} if chat else {"response": text, **more}
            chunk = {"model": body["model"], "created_at": _now(), **piece, "done": False, **rest}
            return json.dumps(chunk).encode() + b"\n"

        finished = False
        try:
            if behaviour.after is not None:
                await behaviour.after.wait()
            await asyncio.sleep(behaviour.seconds_before_first)
            for _ in range(behaviour.thinking):
                yield line("", thinking="hm")
                await asyncio.sleep(behaviour.seconds_between)
            pieces, tool_calls = _said(body, behaviour)
            for index, piece in enumerate((*pieces, None)):
                if behaviour.stall_after == index:
                    await asyncio.Event().wait()
                if behaviour.cut_after == index:
                    finished = True
                    self._cut(request)
                    await asyncio.Event().wait()
                if behaviour.end_after == index:
                    finished = True
                    return
                if behaviour.error_after == index:
                    finished = True
                    yield json.dumps({"error": behaviour.error}).encode() + b"\n"
                    return
                if behaviour.rubbish_after == index:
                    finished = True
                    yield behaviour.rubbish
                    return
                if piece is not None:
                    yield line(piece)
                    await asyncio.sleep(behaviour.seconds_between)
            if tool_calls:
                yield line("", tool_calls=tool_calls)
            finished = True
            yield line(
                "",
                done=True,
                done_reason=behaviour.done_reason,
                total_duration=1,
                load_duration=round(behaviour.load_seconds * 1e9),
                prompt_eval_count=behaviour.prompt_tokens,
                prompt_eval_duration=1,
                eval_count=len(behaviour.pieces),
                eval_duration=1,
            )
        finally:
            received.end(finished=finished)

    def _cut(self, request: Request) -> None:
        """Cuts the request's connection; on a unix socket, where connections have no names, all of them."""
        assert self._server is not None
        client = tuple(request.client or ())
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and client in ((), tuple(transport.get_extra_info("peername") or ())):
                transport.abort()


class _Server(uvicorn.Server):
    """Without signal handlers: those are the test runner's."""

    def install_signal_handlers(self) -> None:
        return


async def _disconnect(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _incapable(body: dict[str, Any], behaviour: Behaviour) -> Response | None:
    """What Ollama answers where the model takes no tools or images, or not so long a prompt."""
    if body.get("tools") and "tools" not in behaviour.capabilities:
        return JSONResponse({"error": f"registry.ollama.ai/library/{body['model']} does not support tools"}, 400)
    if "vision" not in behaviour.capabilities and any(m.get("images") for m in body.get("messages", ())):
        words = "Failed to create new sequence: this model is missing data required for image input"
        return JSONResponse({"error": words}, 500)
    if body.get("think") is not None and "thinking" not in behaviour.capabilities:
        return JSONResponse({"error": f'"{body["model"]}" does not support thinking'}, 400)
    if behaviour.too_long and body.get("truncate") is False:
        return JSONResponse({"error": "the input length exceeds the context length"}, 400)
    return None


def _said(body: dict[str, Any], behaviour: Behaviour) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
    """The pieces of the answer, and its calls of tools."""
    if behaviour.says is None:
        return behaviour.pieces, behaviour.tool_calls
    said = behaviour.says(body)
    return ((said,), ()) if isinstance(said, str) else ((), (said,))


def _refusal(body: dict[str, Any], behaviour: Behaviour | None) -> Response:
    if behaviour is None:
        return JSONResponse({"error": f"model '{body['model']}' not found"}, 404)
    return JSONResponse({"error": behaviour.error}, behaviour.status)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
