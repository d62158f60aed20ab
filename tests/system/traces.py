"""An OTLP receiver that keeps the spans it is sent."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, kw_only=True)
class Span:
    """What tests look at of a span; `parent_id` is empty for a root, `links` are ids of spans, times are in seconds."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start: float
    end: float
    is_error: bool
    attributes: dict[str, Any]
    links: tuple[str, ...]


class TraceReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Serves OTLP over gRPC, on a free port if none is named. Use it as a context."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._spans: dict[str, list[Span]] = defaultdict(list)
        self._lock = Lock()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(address)
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "TraceReceiver":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=0).wait()

    def Export(  # noqa: N802 - named by the protocol
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._lock:
            for resource_spans in request.resource_spans:
                attributes = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
                for scope_spans in resource_spans.scope_spans:
                    for span in scope_spans.spans:
                        kept = Span(
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            name=span.name,
                            service=attributes.get("service.name", ""),
                            start=span.start_time_unix_nano / 1e9,
                            end=span.end_time_unix_nano / 1e9,
                            is_error=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                            attributes={a.key: _value(a.value) for a in span.attributes},
                            links=tuple(link.span_id.hex() for link in span.links),
                        )
                        self._spans[kept.trace_id].append(kept)
        return trace_service_pb2.ExportTraceServiceResponse()

    def services(self) -> list[str]:
        """Which services have sent a span so far."""
        with self._lock:
            return sorted({span.service for spans in self._spans.values() for span in spans})

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace that have come so far."""
        with self._lock:
            return list(self._spans[trace_id])


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
