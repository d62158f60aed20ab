"""gRPC channels to other services: a deadline on every call, waiting for a service that starts, typed errors."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from hearth_runtime.deadlines import bounded
from hearth_runtime.errors import from_rpc_error
from hearth_runtime.principals import as_metadata
from hearth_runtime.repeats import BUFFER_BYTES, SERVICE_CONFIG
from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.tls import channel_credentials

MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# Keepalive agrees with what `Server` permits; reconnecting is quick, since services restart under us.
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.lb_policy_name", "round_robin"),
    # A name is looked up again when a connection ends; gRPC's own pause of 30 s hides replicas that came since.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.per_rpc_retry_buffer_size", BUFFER_BYTES),
]


def open_channel(service: str, address: str, settings: RuntimeSettings) -> grpc.aio.Channel:
    """A channel to `service` ("storage") at `address`: `dns:///name:port` (balanced) or `unix:PATH`.

    A unary call without a timeout gets `rpc_timeout_seconds`, and no call more than the deadline of the one that is
    being served leaves it. A call waits within its deadline for a service that is not there yet, and is repeated within
    it where a service stops and that does no harm (`hearth_runtime.repeats`). It is made for whom the one that is being
    served is made. Errors are `hearth_runtime.errors`. Close it when done.
    """
    interceptors: list[grpc.aio.ClientInterceptor] = [
        _UnaryCalls(service, settings.rpc_timeout_seconds),
        _StreamCalls(service),
    ]
    if settings.otlp_endpoint is not None:
        from opentelemetry.instrumentation.grpc import aio_client_interceptors

        interceptors.extend(aio_client_interceptors())  # type: ignore[no-untyped-call]
    credentials = None if address.startswith("unix:") else channel_credentials(settings)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS, interceptors=interceptors)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS, interceptors=interceptors)


def _waiting(details: grpc.aio.ClientCallDetails, timeout: float | None) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=timeout,
        metadata=grpc.aio.Metadata(*(details.metadata or ()), *as_metadata()),
        credentials=details.credentials,
        wait_for_ready=True if details.wait_for_ready is None else details.wait_for_ready,
    )


class _UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, service: str, timeout_seconds: float) -> None:
        self._service = service
        self._timeout_seconds = timeout_seconds

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        timeout = bounded(client_call_details.timeout or self._timeout_seconds)
        try:
            call = await continuation(_waiting(client_call_details, timeout), request)
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error


class _StreamCalls(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, service: str) -> None:
        self._service = service

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        call = await continuation(_waiting(client_call_details, bounded(client_call_details.timeout)), request)
        return self._typed_errors(call)

    async def _typed_errors(self, call: Any) -> AsyncIterator[Any]:
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error
        finally:
            call.cancel()
