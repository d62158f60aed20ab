"""A model's answer as it comes in: cleaned, bounded, timed, and at last described."""

import time
from dataclasses import dataclass

from ollama import ChatResponse, GenerateResponse

from inference_service.output import clean


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something on the way to the answer that a person may want to know."""

    code: str  # queued, retry, fallback, host_failed
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


type Item = str | Notice | Done
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
        self.first_token_seconds: float | None = None

    def add(self, chunk: Chunk) -> str:
        """The text that the chunk adds, cleaned; "" where it adds none (a model that thinks, or loads)."""
        self._last = chunk
        self._chunks += 1
        raw = chunk.response if isinstance(chunk, GenerateResponse) else chunk.message.content
        text = clean(raw or "")[: self._limit - self._length]
        if (text or chunk.done) and self.first_token_seconds is None:
            self.first_token_seconds = time.perf_counter() - self._started
        if text:
            self._length += len(text)
            self._pieces.append(text)
        return text

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

    def done(self, *, model: str, host: str, queue_seconds: float, data: str | None) -> Done:
        """The description of the whole."""
        last = self._last
        assert last is not None
        reason = last.done_reason if last.done and not self.is_cut else "length"
        return Done(
            model=model,
            host=host,
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=last.prompt_eval_count or 0,
            # A chunk holds a token, mostly: the best count where the host was not let finish and so gives none.
            completion_tokens=last.eval_count if last.eval_count is not None else self._chunks,
            queue_seconds=queue_seconds,
            load_seconds=(last.load_duration or 0) / 1e9,
            first_token_seconds=self.first_token_seconds or 0.0,
            total_seconds=time.perf_counter() - self._started,
            data=data,
        )
