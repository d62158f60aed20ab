"""What an operator sees of the calls to models: metrics, spans and log lines.

None holds a prompt or an answer, but spans do where HEARTH_TRACE_CONTENT says so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson
from hearth_runtime.errors import HearthError, ModelOutputInvalid
from hearth_runtime.telemetry import note_content, tracer
from loguru import logger
from opentelemetry import trace
from prometheus_client import Counter, Gauge, Histogram

from inference_service.answer import Done
from inference_service.generation_request import Request

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
TOKENS = Counter("hearth_model_tokens_total", "Tokens, by direction: input or output", ["model", "direction"])
REQUESTS = Counter(
    "hearth_model_requests_total",
    "Requests to model hosts, by how they ended: completed, cancelled, or an error's code",
    ["model", "host", "outcome"],
)
QUEUE_SECONDS = Histogram(
    "hearth_model_queue_seconds",
    "Waiting for a place at a model host",
    ["host"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
)
ACTIVE = Gauge("hearth_model_active_requests", "Requests that a model host works on", ["host"])
WAITING = Gauge("hearth_model_waiting_requests", "Requests that wait for a place at a model host", ["host"])
BREAKER_STATE = Gauge(
    "hearth_model_host_breaker_state", "The circuit breaker of a model host: 0 closed, 1 half open, 2 open", ["host"]
)

# Names as https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ gives them.
OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}


class ModelCall:
    """One request to a model host, while it runs."""

    def __init__(self, span: trace.Span, *, model: str, host: str) -> None:
        self._span = span
        self._model = model
        self._host = host
        self.outcome = "cancelled"

    def asked(self, request: Request) -> None:
        """What the host is asked, which the span holds where the settings ask for it."""
        note_content(
            self._span,
            gen_ai__system_instructions=lambda: request.system or "",
            gen_ai__input__messages=lambda: _messages(
                [("user", request.prompt)]
                if request.prompt is not None
                else [(message.role, message.content) for message in request.messages]
            ),
        )

    def answered(self, text: str) -> None:
        """What the host said, which the span holds where the settings ask for it."""
        note_content(self._span, gen_ai__output__messages=lambda: _messages([("assistant", text)]))

    def first_token(self, seconds: float) -> None:
        """The first token has come."""
        FIRST_TOKEN.labels(self._model, self._host).observe(seconds)
        self._span.add_event("first token", {"seconds": seconds})

    def generated(self, done: Done) -> None:
        """An answer is complete."""
        self.completed(input_tokens=done.prompt_tokens, output_tokens=done.completion_tokens)
        self._span.set_attribute("gen_ai.response.finish_reasons", [done.finish_reason])
        generating = done.total_seconds - done.first_token_seconds
        if done.completion_tokens > 1 and generating > 0:
            TOKENS_PER_SECOND.labels(self._model, self._host).observe((done.completion_tokens - 1) / generating)

    def completed(self, *, input_tokens: int, output_tokens: int | None = None) -> None:
        """The host has done what it was asked for."""
        self.outcome = "completed"
        self._span.set_attribute("gen_ai.response.model", self._model)
        self._span.set_attribute("gen_ai.usage.input_tokens", input_tokens)
        TOKENS.labels(self._model, "input").inc(input_tokens)
        if output_tokens is not None:
            self._span.set_attribute("gen_ai.usage.output_tokens", output_tokens)
            TOKENS.labels(self._model, "output").inc(output_tokens)


@contextmanager
def model_call(operation: str, *, model: str, host: str, queue_seconds: float) -> Iterator[ModelCall]:
    """Measures a request to a model host. `operation` is a key of OPERATIONS.

    The span is not made the current one: a generator that yields inside would leave it current for its caller.
    """
    QUEUE_SECONDS.labels(host).observe(queue_seconds)
    name = OPERATIONS[operation]
    span = tracer.start_span(
        f"{name} {model}",
        kind=trace.SpanKind.CLIENT,
        attributes={
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": model,
            "server.address": host,
            "hearth.queue_seconds": queue_seconds,
        },
    )
    call = ModelCall(span, model=model, host=host)
    try:
        yield call
    except HearthError as error:
        call.outcome = error.code
        span.set_attribute("error.type", error.code)
        span.set_status(trace.StatusCode.ERROR, error.code)
        # What is wrong with an answer is said in the answer's own words, and those are not for the log.
        detail = "" if isinstance(error, ModelOutputInvalid) else error.detail
        logger.warning("a model call failed", operation=name, model=model, host=host, code=error.code, detail=detail)
        raise
    finally:
        REQUESTS.labels(model, host, call.outcome).inc()
        span.end()


def _messages(messages: Sequence[tuple[str, str]]) -> str:
    """Roles and texts as https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-input-messages.json has them."""
    return orjson.dumps(
        [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in messages]
    ).decode()
