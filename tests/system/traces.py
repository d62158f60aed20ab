"""An OTLP receiver that keeps the spans it is sent."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True, kw_only=True)
class Span:
    """What tests look at of a span; `parent_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str


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
