"""Traces by OpenTelemetry, exported by OTLP where an endpoint is set, and W3C Trace Context as text."""

import re
import threading
from collections.abc import Callable

from opentelemetry import context, propagate, trace

from hearth_runtime.settings import RuntimeSettings

tracer = trace.get_tracer("hearth")

# Of one text in a span.
MAX_CONTENT_CHARACTERS = 20_000

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
# The attribute of a process that tells whether its spans may hold texts of people and models.
CONTENT = "hearth.trace_content"


def configure_tracing(service: str, settings: RuntimeSettings) -> Callable[[], None]:
    """Makes spans from now on, if the settings name an endpoint. Returns what ends it, flushing what is left as far as
    a tenth of `grace_seconds` lets it: a collector that does not answer holds up no process.
    """
    if settings.otlp_endpoint is None:
        return lambda: None
    # Here, as in each place that needs it only then: it takes a fifth of a process' start.
    from hearth_runtime.span_export import provider_of

    provider = provider_of(service, settings, settings.otlp_endpoint)
    trace.set_tracer_provider(provider)

    def end() -> None:
        flushing = threading.Thread(target=provider.shutdown, name="flush-spans", daemon=True)
        flushing.start()
        flushing.join(settings.grace_seconds * 0.1)

    return end


def current_traceparent() -> str:
    """The current span as a `traceparent` header; empty where nothing is traced."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


def trace_id_of(traceparent: str) -> str | None:
    """The trace that `traceparent` names, as 32 hexadecimal digits; None where it names none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1] if match is not None else None


def note_content(span: trace.Span, **texts: Callable[[], str]) -> None:
    """Sets attributes to texts of people and models, each cut to MAX_CONTENT_CHARACTERS, where the settings ask for it.

    They are made only then. `__` in an attribute's name stands for a dot.
    """
    # Spans of the SDK alone have a resource.
    resource = getattr(span, "resource", None)
    if resource is not None and resource.attributes.get(CONTENT):
        for name, text in texts.items():
            span.set_attribute(name.replace("__", "."), text()[:MAX_CONTENT_CHARACTERS])


def context_of(traceparent: str) -> context.Context:
    """The context whose current span is what `traceparent` names."""
    return propagate.extract({"traceparent": traceparent} if traceparent else {})
