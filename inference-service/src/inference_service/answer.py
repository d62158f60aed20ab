"""A model's answer as it comes in: cleaned, bounded, timed, and at last described."""

import time
from dataclasses import dataclass

from hearth_runtime.errors import ModelOutputInvalid
from ollama import ChatResponse, GenerateResponse

from inference_service.conversation import ToolCall
from inference_service.generation_request import Options
from inference_service.output import clean
from inference_service.tool_calls import MAX_CALLS, read_calls, too_many

MAX_COUNT = 2**31 - 1  # what a host says of its tokens is bounded, as all that it says


class EmptyAnswer(ModelOutputInvalid):
    """An answer that ended well and holds nothing; on the wire it is a ModelOutputInvalid."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something on the way to the answer that a person may want to know."""

    code: str  # queued, loading, retry, fallback, host_failed, cut (the answer, or the conversation)
    message: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """How the generation ended; times in seconds."""

    model: str
    host: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float
    load_seconds: float
    first_token_seconds: float
    total_seconds: float
    data: str | None


type Item = str | Notice | ToolCall | Done
type Chunk = ChatResponse | GenerateResponse


class Answer:
    """Collects the chunks of one answer, of at most `limit` characters."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._length = 0
        self._chunks = 0
        self._pieces: list[str] = []
        self._started = time.perf_counter()
        self._last: Chunk | None = None
        self._calls = 0
        self.first_token_seconds: float | None = None

    def add(self, chunk: Chunk) -> list[str | ToolCall]:
        """What the chunk adds, cleaned; nothing where it adds none (a model that thinks, or loads).

        Raises ModelOutputInvalid where it calls a tool in a way that cannot be used: half a call is none.
        """
        self._last = chunk
        self._chunks += 1
        calls: list[ToolCall] = []
        if isinstance(chunk, GenerateResponse):
            raw = chunk.response
        else:
            raw = chunk.message.content
            calls = read_calls(chunk.message.tool_calls or ())
        text = clean(raw or "")[: self._limit - self._length]
        if (text or calls or chunk.done) and self.first_token_seconds is None:
            self.first_token_seconds = time.perf_counter() - self._started
        self._calls += len(calls)
        if self._calls > MAX_CALLS:
            raise too_many()
        if text:
            self._length += len(text)
            self._pieces.append(text)
        return [text, *calls] if text else [*calls]

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._pieces)

    @property
    def is_cut(self) -> bool:
        """Whether it reached the limit."""
        return self._length >= self._limit

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes."""
        return self.is_cut or (self._last is not None and bool(self._last.done))

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither text nor a tool call."""
        return not self._length and not self._calls

    @property
    def calls_tools(self) -> bool:
        """Whether it asks for a tool: then it is not the last word, and need not fit a schema."""
        return self._calls > 0

    @property
    def finish_reason(self) -> str:
        """ "length" where it was cut off, "stop" where the model had said all."""
        cut = self.is_cut or (self._last is not None and self._last.done_reason == "length")
        return "length" if cut else "stop"

    def fills_context(self, options: Options) -> bool:
        """Whether the prompt takes all of the context, as what Ollama has cut off to fit it does."""
        count = self._last.prompt_eval_count if self._last is not None else None
        return options.context_tokens is not None and (count or 0) >= options.context_tokens

    def nothing(self, *, model: str, host: str) -> EmptyAnswer:
        """What to raise where it `is_empty`."""
        match self._last.done_reason if self._last is not None else None:
            case "load" | "unload" as reason:
                why = f"{host} only did {reason} it"
            case "length":
                why = "its tokens ran out before it: a larger max_tokens or context_tokens may help"
            case _:
                why = "a stop word may come first, or the model may not fit the prompt"
        return EmptyAnswer(f"{model} ended its answer without a word; {why}.")

    def cut(self, options: Options, *, model: str) -> Notice | None:
        """What to say where it was cut off: at what, and what to raise."""
        if self.finish_reason != "length":
            return None
        if self.is_cut:
            where = f"{self._limit} characters. HEARTH_MODEL_OUTPUT_CHARACTERS allows no more"
        elif options.max_tokens is not None and self._tokens >= options.max_tokens:
            where = f"max_tokens, {options.max_tokens}. Raise it for a longer answer"
        else:
            size = f" of {options.context_tokens} tokens" if options.context_tokens is not None else ""
            where = f"the end of its context{size}. Raise context_tokens, or shorten the conversation"
        return Notice(code="cut", message=f"{model}'s answer was cut off at {where}.")

    @property
    def _tokens(self) -> int:
        # A chunk holds a token, mostly: the best count where the host was not let finish and so gives none.
        counted = self._last.eval_count if self._last is not None else None
        return self._chunks if counted is None else bounded(counted)

    def done(self, *, model: str, host: str, queue_seconds: float, data: str | None) -> Done:
        """The description of the whole."""
        last = self._last
        assert last is not None
        return Done(
            model=model,
            host=host,
            finish_reason=self.finish_reason,
            prompt_tokens=bounded(last.prompt_eval_count or 0),
            completion_tokens=self._tokens,
            queue_seconds=queue_seconds,
            load_seconds=bounded((last.load_duration or 0) // 1_000_000) / 1000,
            first_token_seconds=self.first_token_seconds or 0.0,
            total_seconds=time.perf_counter() - self._started,
            data=data,
        )


def prompt_cut(options: Options, *, model: str) -> Notice:
    """What to say where the prompt does not fit the model's context."""
    size = f" of {options.context_tokens} tokens" if options.context_tokens is not None else ""
    return Notice(
        code="cut",
        message=f"The conversation is longer than {model}'s context{size}: the oldest of it is left out. "
        "Raise context_tokens, or shorten the conversation.",
    )


def bounded(count: int) -> int:
    """A number that a host gives, as one that a message can hold."""
    return max(0, min(count, MAX_COUNT))
