"""Embeddings: texts to vectors, on the first host that can."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hearth_runtime.errors import HearthError, InvalidArgument, ModelHostUnavailable, ModelTimeout
from hearth_runtime.telemetry import tracer
from opentelemetry import trace

from inference_service.generation import TOKENS
from inference_service.hosts import Host, Hosts
from inference_service.ollama_errors import typed_errors
from inference_service.settings import InferenceSettings

MAX_TEXTS = 1024


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """One vector for each text, in their order."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    prompt_tokens: int


class EmbeddingModels:
    """Embeds on `hosts`."""

    def __init__(self, hosts: Hosts, settings: InferenceSettings) -> None:
        self._hosts = hosts
        self._settings = settings

    async def embed(self, model: str, texts: Sequence[str], *, fair_key: str) -> Embeddings:
        """Raises HearthError; a host that fails is followed by the next that has the model."""
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise InvalidArgument(f"Between 1 and {MAX_TEXTS} texts can be embedded at once; there are {len(texts)}.")
        failure: HearthError | None = None
        for host in await self._hosts.for_model(model):
            try:
                return await self._on_host(host, model, texts, fair_key)
            except HearthError as error:
                if not error.retryable:
                    raise
                failure = error
        assert failure is not None
        raise failure

    async def _on_host(self, host: Host, model: str, texts: Sequence[str], fair_key: str) -> Embeddings:
        attributes = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "server.address": host.name,
        }
        patience = self._settings.model_first_token_seconds
        async with host.slots.held(fair_key):
            with (
                tracer.start_as_current_span(f"embeddings {model}", kind=trace.SpanKind.CLIENT, attributes=attributes),
                typed_errors(host=host.name, model=model),
            ):
                try:
                    async with asyncio.timeout(patience):
                        answer = await host.client.embed(model=model, input=list(texts))
                except TimeoutError as error:
                    raise ModelTimeout(f"{host.name} was silent for {patience:g} seconds.") from error
        if len(answer.embeddings) != len(texts):
            raise ModelHostUnavailable(f"{host.name} gave {len(answer.embeddings)} vectors for {len(texts)} texts.")
        tokens = answer.prompt_eval_count or 0
        TOKENS.labels(model, "input").inc(tokens)
        return Embeddings(
            vectors=tuple(tuple(v) for v in answer.embeddings), model=answer.model or model, prompt_tokens=tokens
        )
