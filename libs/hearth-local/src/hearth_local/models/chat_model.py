"""The chat model as asynchronous pieces of text: prompts that fit, a fair turn for each, an end when nobody listens."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from hearth_local.models.admission import Admission, Busy
from hearth_local.models.catalog import CHAT, catalog
from hearth_local.models.llama import SLOTS, Chunk, Counts, Llama, LlamaError
from hearth_local.models.protocol import ApiError, Generation

MAX_WAITING = 256

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "or start the model server with a longer context"
)
BUSY = "server busy, please try again.  maximum pending requests exceeded"


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How a generation ended; `load_duration` in nanoseconds, `context` what Ollama's next request may go on from."""

    reason: str
    load_duration: int
    counts: Counts
    context: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What llama.cpp is to do, the prompt that it comes to, and how many tokens that and the answer may take."""

    call: Callable[[Callable[[Chunk], bool]], None]
    prompt: Sequence[int]
    tokens: int


class ChatModel:
    """Loads the model at the first request; then up to SLOTS generations run side by side and the others wait."""

    def __init__(self, *, threads: int, context_tokens: int, socket: Path) -> None:
        self.context_tokens = context_tokens
        self._threads = threads
        self._socket = socket
        self._llama: Llama | None = None
        self._changing = asyncio.Lock()
        self._loading: asyncio.Future[Llama] | None = None
        self._leaver: asyncio.Future[None] | None = None
        self._users = 0
        self._leaving = False  # once nobody uses it
        self._admission = Admission(slots=SLOTS, tokens=context_tokens, max_waiting=MAX_WAITING)
        self._generators = ThreadPoolExecutor(SLOTS, thread_name_prefix="generate")
        self._quick = ThreadPoolExecutor(2, thread_name_prefix="model")

    @property
    def is_loaded(self) -> bool:
        """Whether a request need not wait for the model."""
        return self._llama is not None

    async def load(self) -> int:
        """Makes sure that the model is loaded; returns how many nanoseconds that took. Raises ApiError."""
        async with self._loaded() as (_, duration):
            return duration

    async def unload(self) -> None:
        """Frees the model's memory, once the generations that run have ended. The next request loads it again."""
        self._leaving = True
        await self._leave_if_unused()

    async def generate(self, generation: Generation) -> AsyncGenerator[str | Finish]:
        """Pieces of text, then `Finish`. Closing it frees the slot at the next token. Raises ApiError.

        A conversation that does not fit loses its oldest messages, but neither system messages nor the last one.
        """
        try:
            async with self._loaded() as (llama, load_duration):
                prepared = await self._in_thread(self._prepared, llama, generation)
                leave = await self._admission.enter(prepared.tokens)
                pieces: list[str] = []
                async with aclosing(self._chunks(prepared, leave)) as chunks:
                    async for chunk in chunks:
                        if chunk.text:
                            pieces.append(chunk.text)
                            yield chunk.text
                        if chunk.counts is not None and chunk.reason is not None:
                            context: tuple[int, ...] = ()
                            if generation.remembers:
                                context = (*prepared.prompt, *await self._in_thread(llama.tokens, "".join(pieces)))
                            yield Finish(
                                reason=chunk.reason, load_duration=load_duration, counts=chunk.counts, context=context
                            )
        except LlamaError as error:
            raise ApiError(error.status, error.message) from error
        except Busy as error:
            raise ApiError(503, BUSY) from error

    def _prepared(self, llama: Llama, generation: Generation) -> _Prepared:
        limit = min(generation.context_tokens or self.context_tokens, self.context_tokens)
        messages, prompt = _fitting(llama, generation, limit)
        bound = _answer_tokens(generation, prompt=len(prompt), limit=limit, share=self.context_tokens // SLOTS)
        request: dict[str, object] = {**generation.sampling, "max_tokens": bound, "cache_prompt": True}
        if generation.stop:
            request["stop"] = list(generation.stop)
        if not generation.output:
            return _Prepared(
                call=partial(llama.complete, {**request, "prompt": prompt}), prompt=prompt, tokens=len(prompt) + bound
            )
        request["response_format"] = (
            {"type": "json_object"}
            if generation.output is True
            else {"type": "json_schema", "json_schema": {"schema": generation.output}}
        )
        return _Prepared(
            call=partial(llama.converse, {**request, "messages": list(messages)}),
            prompt=prompt,
            tokens=len(prompt) + bound,
        )

    async def _chunks(self, prepared: _Prepared, leave: Callable[[], None]) -> AsyncGenerator[Chunk]:
        loop = asyncio.get_running_loop()
        # Bounded by the request's max_tokens: there is no more than one piece for each token.
        items: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()
        abandoned = Event()

        def hand_over(chunk: Chunk) -> bool:
            if not abandoned.is_set() and (chunk.text or chunk.reason):
                loop.call_soon_threadsafe(items.put_nowait, chunk)
            return abandoned.is_set()

        def ended(work: Future[None]) -> None:
            # The slot is free only now, which may be later than the reader's leaving; the loop may be gone by then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(leave)
                loop.call_soon_threadsafe(self._user_left)
                loop.call_soon_threadsafe(items.put_nowait, work.exception())

        self._users += 1
        work = self._generators.submit(prepared.call, hand_over)
        work.add_done_callback(ended)
        try:
            while (item := await items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            abandoned.set()

    @asynccontextmanager
    async def _loaded(self) -> AsyncIterator[tuple[Llama, int]]:
        """The model, kept loaded while in use, and the nanoseconds that loading took."""
        self._users += 1
        try:
            started = time.perf_counter_ns()
            async with self._changing:
                self._leaving = False
                duration = 0
                if self._llama is None:
                    # It goes on loading when this request is given up, and the next one waits for the same.
                    self._loading = self._loading or asyncio.ensure_future(self._in_thread(self._load))
                    try:
                        self._llama = await asyncio.shield(self._loading)
                    except LlamaError as error:
                        self._loading = None
                        raise ApiError(error.status, error.message) from error
                    self._loading = None
                    duration = time.perf_counter_ns() - started
                llama = self._llama
            yield llama, duration
        finally:
            self._user_left()

    def _user_left(self) -> None:
        self._users -= 1
        if self._leaving and self._users == 0:
            self._leaver = asyncio.ensure_future(self._leave_if_unused())

    async def _leave_if_unused(self) -> None:
        async with self._changing:
            if self._leaving and self._users == 0 and self._llama is not None:
                llama, self._llama = self._llama, None
                await self._in_thread(llama.close)

    def _load(self) -> Llama:
        return Llama(
            file=catalog()[CHAT].file,
            threads=self._threads,
            context_tokens=self.context_tokens,
            path=self._socket,
        )

    async def _in_thread[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._quick, lambda: call(*args, **kwargs))


def _fitting(llama: Llama, generation: Generation, limit: int) -> tuple[Sequence[dict[str, str]], list[int]]:
    """The messages, the oldest left out where it must be, and the prompt's tokens. Raises ApiError.

    As Ollama does: https://github.com/ollama/ollama/blob/main/server/prompt.go
    """
    messages = generation.messages

    def kept(skipped: int) -> Sequence[dict[str, str]]:
        return (*(m for m in messages[:skipped] if m["role"] == "system"), *messages[skipped:])

    def prompt(skipped: int) -> list[int]:
        text = llama.render(kept(skipped)) if generation.prompt is None else generation.prompt
        return [*generation.context, *llama.tokens(text)]

    skipped, tokens = 0, prompt(0)
    if len(tokens) >= limit and generation.truncates and len(messages) > 1:
        skipped = bisect_left(range(len(messages) - 1), True, key=lambda n: len(prompt(n)) < limit)
        tokens = prompt(skipped)
    if len(tokens) >= limit:
        raise ApiError(400, TOO_LONG)
    return kept(skipped), tokens


def _answer_tokens(generation: Generation, *, prompt: int, limit: int, share: int) -> int:
    """How long the answer may get. One that names no bound gets about a slot's share, so that four fit together."""
    room = limit - prompt
    wanted = generation.sampling.get("max_tokens")
    if wanted is not None and wanted > 0:
        return min(int(wanted), room)
    if generation.context_tokens is not None:
        return room
    return min(room, max(share - prompt, share // 2))
