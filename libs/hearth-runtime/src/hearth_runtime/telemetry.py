"""Traces by OpenTelemetry, exported by OTLP where an endpoint is set, and W3C Trace Context as text."""

import re
import threading
from collections.abc import Callable, Sequence

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Status

from hearth_runtime.settings import RuntimeSettings

tracer = trace.get_tracer("hearth")

# Of one text in a span.
MAX_CONTENT_CHARACTERS = 20_000

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CONTENT = "hearth.trace_content"
# Of an error, as opposed to what it says, which may be in the words of a model.
_CODE = re.compile(r"[a-z_]+")


def configure_tracing(service: str, settings: RuntimeSettings) -> Callable[[], None]:
    """Makes spans from now on, if the settings name an endpoint. Returns what ends it, flushing what is left as far as
    a tenth of `grace_seconds` lets it: a collector that does not answer holds up no process.
    """
    if settings.otlp_endpoint is None:
        return lambda: None
    resource = Resource.create({SERVICE_NAME: service, "service.namespace": "hearth", _CONTENT: settings.trace_content})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    insecure = not settings.otlp_endpoint.startswith("https://")
    exporter_type = OTLPSpanExporter if settings.trace_content else _WithoutContent
    exporter = exporter_type(endpoint=settings.otlp_endpoint, insecure=insecure, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
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
    if isinstance(span, Span) and span.resource.attributes.get(_CONTENT):
        for name, text in texts.items():
            span.set_attribute(name.replace("__", "."), text()[:MAX_CONTENT_CHARACTERS])


def context_of(traceparent: str) -> context.Context:
    """The context whose current span is what `traceparent` names."""
    return propagate.extract({"traceparent": traceparent} if traceparent else {})


class _WithoutContent(OTLPSpanExporter):
    """Leaves out what errors say, which instrumentation puts into spans: a model may have said it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([_without_content(span) for span in spans])


def _without_content(span: ReadableSpan) -> ReadableSpan:
    says = span.status.description is not None and not _CODE.fullmatch(span.status.description)
    if not says and not any(event.name == "exception" for event in span.events):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_type_of(event) if event.name == "exception" else event for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code) if says else span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _type_of(exception: Event) -> Event:
    attributes = {k: v for k, v in (exception.attributes or {}).items() if k == "exception.type"}
    return Event(exception.name, attributes=attributes, timestamp=exception.timestamp)
