"""Embeddings: texts to vectors, batch by batch, each on a host that has the model."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import FieldViolation, HearthError, InvalidArgument, ModelHostUnavailable, ModelTimeout
from ollama import EmbedResponse

from inference_service.answer import bounded
from inference_service.generation import answer_seconds
from inference_service.generation_request import misnamed
from inference_service.hosts import Host, Hosts
from inference_service.measures import model_call
from inference_service.ollama_errors import typed_errors
from inference_service.settings import InferenceSettings
from inference_service.tries import Tries

MAX_TEXTS = 1024
MAX_CHARACTERS = 8_000_000
MAX_DIMENSIONS = 16_000  # as many as pgvector takes
MAX_NUMBER = 3.4028234e38  # of 32 bits, as vectors are passed on
# Batches keep a large request from holding a place at a host for long.
BATCH_TEXTS = 64


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """One vector for each text, in their order."""

    vectors: tuple[Sequence[float], ...]
    model: str
    prompt_tokens: int


class EmbeddingModels:
    """Embeds on `hosts`."""

    def __init__(self, hosts: Hosts, settings: InferenceSettings) -> None:
        self._hosts = hosts
        self._settings = settings

    async def embed(
        self, model: str, texts: Sequence[str], *, fair_key: str, seconds: float | None = None
    ) -> Embeddings:
        """Raises HearthError; a host that fails is followed by the next that has the model."""
        _check(model, texts)
        limit = answer_seconds(self._settings, seconds)
        vectors: list[Sequence[float]] = []
        tokens = 0
        try:
            async with asyncio.timeout(limit):
                for start in range(0, len(texts), BATCH_TEXTS):
                    batch = await self._tried(model, texts[start : start + BATCH_TEXTS], fair_key, limit)
                    vectors.extend(batch.vectors)
                    tokens += batch.prompt_tokens
        except TimeoutError as error:
            raise ModelTimeout(
                f"{model} had embedded {len(vectors)} of {len(texts)} texts after the {limit:.3g} seconds it was given."
            ) from error
        if len({len(vector) for vector in vectors}) != 1:
            raise ModelHostUnavailable(f"{model} gave vectors of several lengths: its hosts have different versions.")
        return Embeddings(vectors=tuple(vectors), model=model, prompt_tokens=tokens)

    async def _tried(self, model: str, texts: Sequence[str], fair_key: str, seconds: float) -> Embeddings:
        tries = Tries(self._hosts, self._settings, (model,), seconds=seconds)
        while True:
            try:
                return await self._on_host(await tries.next_host(), model, texts, fair_key)
            except HearthError as error:
                tries.failed(error)

    async def _on_host(self, host: Host, model: str, texts: Sequence[str], fair_key: str) -> Embeddings:
        patience = self._settings.model_first_token_seconds
        queued = time.perf_counter()
        with host.slots.place(fair_key) as turn:
            await turn
            queue_seconds = time.perf_counter() - queued
            with model_call("embed", model=model, host=host.name, queue_seconds=queue_seconds) as call:
                async with host.breaker.call():
                    with typed_errors(host=host.name, model=model):
                        try:
                            async with asyncio.timeout(patience):
                                body = {"model": model, "input": list(texts)}
                                answer = EmbedResponse(**await host.http.post("/api/embed", body))
                        except TimeoutError as error:
                            raise ModelTimeout(f"{host.name} was silent for {patience:g} seconds.") from error
                        vectors = _checked(answer.embeddings, len(texts), host)
                tokens = bounded(answer.prompt_eval_count or 0)
                call.completed(input_tokens=tokens)
        return Embeddings(vectors=vectors, model=model, prompt_tokens=tokens)


def _check(model: str, texts: Sequence[str]) -> None:
    wrong = []
    if message := misnamed(model):
        wrong.append(FieldViolation(field="model", message=message))
    if not 1 <= len(texts) <= MAX_TEXTS:
        wrong.append(FieldViolation(field="texts", message=f"there are {len(texts)}; 1 to {MAX_TEXTS} are taken"))
    elif (characters := sum(map(len, texts))) > MAX_CHARACTERS:
        message = f"they have {characters} characters; at most {MAX_CHARACTERS} are taken"
        wrong.append(FieldViolation(field="texts", message=message))
    if wrong:
        raise InvalidArgument("; ".join(f"{w.field}: {w.message}" for w in wrong), fields=wrong)


def _checked(vectors: Any, count: int, host: Host) -> tuple[Sequence[float], ...]:
    if len(vectors) != count:
        raise ModelHostUnavailable(f"{host.name} gave {len(vectors)} vectors for {count} texts.")
    if not all(vector and len(vector) <= MAX_DIMENSIONS and all(map(_is_finite, vector)) for vector in vectors):
        raise ModelHostUnavailable(
            f"{host.name} gave a vector that is empty, has more than {MAX_DIMENSIONS} numbers or not finite ones."
        )
    return tuple(vectors)


def _is_finite(number: float) -> bool:
    return -MAX_NUMBER <= number <= MAX_NUMBER
