"""Traces by OpenTelemetry, exported by OTLP where an endpoint is set, and W3C Trace Context as text."""

import threading
from collections.abc import Callable

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from hearth_runtime.settings import RuntimeSettings

tracer = trace.get_tracer("hearth")


def configure_tracing(service: str, settings: RuntimeSettings) -> Callable[[], None]:
    """Makes spans from now on, if the settings name an endpoint. Returns what ends it, flushing what is left as far as
    a tenth of `grace_seconds` lets it: a collector that does not answer holds up no process.
    """
    if settings.otlp_endpoint is None:
        return lambda: None
    resource = Resource.create({SERVICE_NAME: service, "service.namespace": "hearth"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    insecure = not settings.otlp_endpoint.startswith("https://")
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure, timeout=5)
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


def context_of(traceparent: str) -> context.Context:
    """The context whose current span is what `traceparent` names."""
    return propagate.extract({"traceparent": traceparent} if traceparent else {})
