"""The chat model: llama.cpp's server, in this process and without a port, as asynchronous pieces of text."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import xllamacpp

from hearth_local.models.catalog import CHAT, catalog
from hearth_local.models.protocol import ApiError, Generation

SLOTS = 4
MAX_WAITING = 64
SILENT = -1


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How a generation ended; durations in nanoseconds, as Ollama has them."""

    reason: str
    load_duration: int
    prompt_tokens: int
    prompt_duration: int
    tokens: int
    duration: int


class ChatModel:
    """Loads the model at the first request; then up to SLOTS generations run side by side and the others wait."""

    def __init__(self, *, threads: int, context_tokens: int, socket: Path) -> None:
        self._threads = threads
        self._context_tokens = context_tokens
        self._socket = socket
        self._server: Any = None
        self._loading = Lock()
        self._pool = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="generate")

    @property
    def is_loaded(self) -> bool:
        """Whether a request need not wait for the model."""
        return self._server is not None

    async def load(self) -> int:
        """Makes sure that the model is loaded; returns how many nanoseconds that took."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._load)

    async def generate(self, generation: Generation) -> AsyncGenerator[str | Finish]:
        """Pieces of text, then `Finish`. Closing it frees the slot at the next token. Raises ApiError.

        A conversation that does not fit loses its oldest messages, but neither system messages nor the last one.
        """
        load_duration = await self.load()
        while True:
            try:
                async for item in self._attempt(generation, load_duration):
                    yield item
            except _ContextExceeded as error:
                shorter = _without_oldest(generation.messages)
                if shorter is None:
                    raise ApiError(400, error.message) from error
                generation = replace(generation, messages=shorter)
            else:
                return

    async def _attempt(self, generation: Generation, load_duration: int) -> AsyncGenerator[str | Finish]:
        loop = asyncio.get_running_loop()
        # Bounded by the context: a generation has no more pieces than that has tokens.
        items: asyncio.Queue[dict[str, Any] | BaseException | None] = asyncio.Queue()
        abandoned = Event()

        def hand_over(chunk: dict[str, Any]) -> bool:
            if not abandoned.is_set():
                loop.call_soon_threadsafe(items.put_nowait, chunk)
            return abandoned.is_set()

        def work() -> None:
            outcome: BaseException | None = None
            try:
                if not abandoned.is_set():
                    self._call(generation, hand_over)
            except ValueError as error:
                outcome = ApiError(400, _first_line(error))
            except RuntimeError as error:
                outcome = ApiError(500, _first_line(error))
            if not abandoned.is_set():
                loop.call_soon_threadsafe(items.put_nowait, outcome)

        self._pool.submit(work)
        reason = "stop"
        try:
            while (item := await items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                _raise_error(item)
                piece, reason = _piece(item), _reason(item) or reason
                if piece:
                    yield piece
                if "timings" in item:
                    yield _finish(item["timings"], reason, load_duration)
        finally:
            abandoned.set()

    def _call(self, generation: Generation, hand_over: Callable[[dict[str, Any]], bool]) -> None:
        request: dict[str, Any] = {**generation.sampling, "stream": True, "cache_prompt": True}
        if generation.stop:
            request["stop"] = list(generation.stop)
        if generation.prompt is not None:
            self._server.handle_completions({**request, "prompt": generation.prompt}, hand_over)
            return
        if generation.output is True:
            request["response_format"] = {"type": "json_object"}
        elif generation.output is not None:
            request["response_format"] = {"type": "json_schema", "json_schema": {"schema": generation.output}}
        self._server.handle_chat_completions({**request, "messages": list(generation.messages)}, hand_over)

    def _load(self) -> int:
        if self._server is not None:
            return 0
        with self._loading:
            if self._server is not None:
                return 0
            started = time.perf_counter_ns()
            params = xllamacpp.CommonParams()
            params.model.path = str(catalog()[CHAT].file)
            params.n_ctx = self._context_tokens
            params.n_parallel = SLOTS
            params.kv_unified = True
            params.cpuparams.n_threads = self._threads
            params.n_batch = 512
            params.cache_ram_mib = 0
            params.verbosity = SILENT
            # It always serves HTTP as well; a unix socket in a private folder keeps that to ourselves.
            params.hostnames = [str(self._socket)]
            self._server = xllamacpp.Server(params)
            return time.perf_counter_ns() - started


class _ContextExceeded(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _raise_error(chunk: dict[str, Any]) -> None:
    error = chunk.get("error")
    if error is None:
        return
    if error.get("type") == "exceed_context_size_error":
        raise _ContextExceeded(str(error["message"]))
    raise ApiError(int(error.get("code", 500)), str(error.get("message", error)))


def _piece(chunk: dict[str, Any]) -> str:
    choice = (chunk.get("choices") or [{}])[0]
    return str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")


def _reason(chunk: dict[str, Any]) -> str | None:
    reason = (chunk.get("choices") or [{}])[0].get("finish_reason")
    return None if reason is None else "length" if reason == "length" else "stop"


def _finish(timings: dict[str, Any], reason: str, load_duration: int) -> Finish:
    return Finish(
        reason=reason,
        load_duration=load_duration,
        prompt_tokens=timings["prompt_n"] + timings.get("cache_n", 0),
        prompt_duration=int(timings["prompt_ms"] * 1e6),
        tokens=timings["predicted_n"],
        duration=int(timings["predicted_ms"] * 1e6),
    )


def _without_oldest(messages: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...] | None:
    for index, message in enumerate(messages[:-1]):
        if message["role"] != "system":
            return messages[:index] + messages[index + 1 :]
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
