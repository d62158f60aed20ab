"""Where spans go: to a collector by OTLP, without what people and models said unless the settings ask for it."""

import re
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Status

from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.telemetry import CONTENT

# Of an error, as opposed to what it says, which may be in the words of a model.
_CODE = re.compile(r"[a-z_]+")


def provider_of(service: str, settings: RuntimeSettings, endpoint: str) -> TracerProvider:
    """Makes spans of the process `service` and sends them to `endpoint`."""
    resource = Resource.create({SERVICE_NAME: service, "service.namespace": "hearth", CONTENT: settings.trace_content})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter_type = OTLPSpanExporter if settings.trace_content else _WithoutContent
    exporter = exporter_type(endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider


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
