"""One generation: the right host, retries before the first token, fallback models, time-outs, a checked answer."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelTimeout
from hearth_runtime.telemetry import tracer
from loguru import logger
from ollama import ChatResponse, GenerateResponse
from opentelemetry import trace
from prometheus_client import Counter, Histogram

from inference_service.hosts import Host, Hosts
from inference_service.ollama_errors import typed_errors
from inference_service.output import OutputSchema, clean
from inference_service.settings import InferenceSettings

FIRST_TOKEN = Histogram(
    "hearth_model_first_token_seconds",
    "From sending a request to its first token",
    ["model", "host"],
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180),
)
TOKENS_PER_SECOND = Histogram(
    "hearth_model_tokens_per_second",
    "Tokens per second once the first has come",
    ["model", "host"],
    buckets=(1, 2, 5, 10, 20, 40, 80, 160, 320, 640),
)
TOKENS = Counter("hearth_model_tokens_total", "Tokens, by direction", ["model", "direction"])
REQUESTS = Counter("hearth_model_requests_total", "Requests to model hosts, by how they ended", ["model", "outcome"])
QUEUE_SECONDS = Histogram(
    "hearth_model_queue_seconds",
    "Waiting for a place at a model host",
    ["host"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to generate; what is None or empty is left to the model host."""

    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    context_tokens: int | None = None
    keep_alive: str | None = None
    output_schema: str | None = None

    def for_ollama(self) -> dict[str, Any]:
        """Ollama's `options`."""
        options = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "num_predict": self.max_tokens,
            "stop": list(self.stop) or None,
            "num_ctx": self.context_tokens,
        }
        return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to generate: the continuation of `messages`, or of `prompt`."""

    models: tuple[str, ...]  # the model, then its fallbacks
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    system: str | None = None
    options: Options
    fair_key: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something on the way to the answer that a person may want to know."""

    code: str
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


class Generator:
    """Generates on `hosts`."""

    def __init__(self, hosts: Hosts, settings: InferenceSettings) -> None:
        self._hosts = hosts
        self._settings = settings

    async def generate(self, request: Request) -> AsyncGenerator[Item]:
        """Pieces of text and notices, then `Done`. Closing it closes the request to the host. Raises HearthError.

        A model that is not there or does not answer is followed by the next; what has begun to answer is not repeated.
        """
        schema = OutputSchema(request.options.output_schema) if request.options.output_schema else None
        for model, fallback in zip(request.models, (*request.models[1:], None), strict=True):
            try:
                async with aclosing(self._with_retries(request, model, schema)) as items:
                    async for item in items:
                        yield item
            except _BeforeFirstToken as failure:
                if fallback is None:
                    raise failure.error from failure
                yield Notice(code="fallback", message=f"{failure.error.detail} Trying {fallback} instead.")
            else:
                return

    async def _with_retries(self, request: Request, model: str, schema: OutputSchema | None) -> AsyncGenerator[Item]:
        failed: list[Host] = []
        for attempt in range(1, self._settings.model_attempts + 1):
            try:
                host = await self._choose(model, failed)
                if not host.slots.is_free:
                    yield Notice(code="queued", message=f"Waiting for a place at {host.name}.")
                async with aclosing(self._on_host(request, model, host, schema)) as items:
                    async for item in items:
                        yield item
            except _BeforeFirstToken as failure:
                if failure.host is not None:
                    failed.append(failure.host)
                if not failure.error.retryable or attempt == self._settings.model_attempts:
                    raise
                delay = random.uniform(0, self._settings.model_backoff_seconds * 2 ** (attempt - 1))  # noqa: S311
                yield Notice(code="retry", message=f"{failure.error.detail} Trying again.")
                await asyncio.sleep(delay)
            else:
                return

    async def _choose(self, model: str, failed: Sequence[Host]) -> Host:
        try:
            hosts = await self._hosts.for_model(model)
        except HearthError as error:
            raise _BeforeFirstToken(error, host=None) from error
        return min(hosts, key=failed.count)

    async def _on_host(
        self, request: Request, model: str, host: Host, schema: OutputSchema | None
    ) -> AsyncGenerator[Item]:
        queued = time.perf_counter()
        answered = False
        attributes = {
            "gen_ai.operation.name": "chat" if request.prompt is None else "text_completion",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "server.address": host.name,
        }
        outcome = "cancelled"
        span = tracer.start_span(f"chat {model}", kind=trace.SpanKind.CLIENT, attributes=attributes)
        try:
            async with host.slots.held(request.fair_key):
                queue_seconds = time.perf_counter() - queued
                QUEUE_SECONDS.labels(host.name).observe(queue_seconds)
                async with aclosing(self._answer(request, model, host, schema, queue_seconds)) as items:
                    async for item in items:
                        answered = True
                        if isinstance(item, Done):
                            outcome = item.finish_reason
                            _describe(span, item)
                        yield item
        except HearthError as error:
            outcome = error.code
            span.set_status(trace.StatusCode.ERROR, error.code)
            logger.warning("a generation failed", model=model, host=host.name, code=error.code, detail=error.detail)
            if answered:
                raise
            raise _BeforeFirstToken(error, host=host) from error
        finally:
            REQUESTS.labels(model, outcome).inc()
            span.end()

    async def _answer(
        self, request: Request, model: str, host: Host, schema: OutputSchema | None, queue_seconds: float
    ) -> AsyncGenerator[str | Done]:
        started = time.perf_counter()
        first: float | None = None
        length, pieces = 0, []
        async with aclosing(self._chunks(request, model, host, schema)) as chunks:
            async for chunk in chunks:
                if first is None:
                    first = time.perf_counter() - started
                raw = chunk.response if isinstance(chunk, GenerateResponse) else chunk.message.content
                text = clean(raw or "")[: self._settings.model_output_characters - length]
                length += len(text)
                if text:
                    pieces.append(text)
                    yield text
                full = length >= self._settings.model_output_characters
                if chunk.done or full:
                    done = Done(
                        model=model,
                        host=host.name,
                        finish_reason="length" if full else chunk.done_reason or "stop",
                        prompt_tokens=chunk.prompt_eval_count or 0,
                        completion_tokens=chunk.eval_count or 0,
                        queue_seconds=queue_seconds,
                        load_seconds=(chunk.load_duration or 0) / 1e9,
                        first_token_seconds=first,
                        total_seconds=time.perf_counter() - started,
                        data=schema.check("".join(pieces)) if schema is not None else None,
                    )
                    _measure(done)
                    yield done
                    return
        raise ModelHostUnavailable(f"{host.name} ended the answer before it was done.")

    async def _chunks(
        self, request: Request, model: str, host: Host, schema: OutputSchema | None
    ) -> AsyncGenerator[ChatResponse | GenerateResponse]:
        """The host's chunks; the first may take long, since a model may have to load, the next may not."""
        shared: dict[str, Any] = {
            "model": model,
            "stream": True,
            "format": schema.schema if schema is not None else None,
            "options": request.options.for_ollama(),
            "keep_alive": request.options.keep_alive,
        }
        with typed_errors(host=host.name, model=model):
            if request.prompt is None:
                messages = [{"role": m.role, "content": m.content} for m in request.messages]
                answer: Any = await host.client.chat(messages=messages, **shared)
            else:
                answer = await host.client.generate(prompt=request.prompt, system=request.system or "", **shared)
            patience = self._settings.model_first_token_seconds
            async with aclosing(answer) as chunks:
                while True:
                    try:
                        async with asyncio.timeout(patience):
                            chunk = await anext(chunks)
                    except TimeoutError as error:
                        raise ModelTimeout(f"{host.name} was silent for {patience:g} seconds.") from error
                    except StopAsyncIteration:
                        return
                    yield chunk
                    patience = self._settings.model_between_tokens_seconds


class _BeforeFirstToken(Exception):
    """An error before anything of the answer was shown: the request may be made again, there or elsewhere."""

    def __init__(self, error: HearthError, *, host: Host | None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.host = host


def _describe(span: trace.Span, done: Done) -> None:
    """GenAI semantic conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/."""
    span.set_attribute("gen_ai.response.model", done.model)
    span.set_attribute("gen_ai.response.finish_reasons", [done.finish_reason])
    span.set_attribute("gen_ai.usage.input_tokens", done.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", done.completion_tokens)


def _measure(done: Done) -> None:
    FIRST_TOKEN.labels(done.model, done.host).observe(done.first_token_seconds)
    generating = done.total_seconds - done.first_token_seconds
    if done.completion_tokens > 1 and generating > 0:
        TOKENS_PER_SECOND.labels(done.model, done.host).observe((done.completion_tokens - 1) / generating)
    TOKENS.labels(done.model, "input").inc(done.prompt_tokens)
    TOKENS.labels(done.model, "output").inc(done.completion_tokens)
