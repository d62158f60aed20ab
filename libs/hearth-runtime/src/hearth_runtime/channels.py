"""gRPC channels to other services: a deadline on every call, waiting for a service that starts, typed errors."""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

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
    interceptors: list[grpc.aio.ClientInterceptor] = []
    if settings.otlp_endpoint is not None:
        from opentelemetry.instrumentation.grpc import aio_client_interceptors

        interceptors.extend(aio_client_interceptors())  # type: ignore[no-untyped-call]
    credentials = None if address.startswith("unix:") else channel_credentials(settings)
    if credentials is None:
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS, interceptors=interceptors)
    else:
        channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS, interceptors=interceptors)
    return _Channel(channel, service, settings.rpc_timeout_seconds)


class _Channel(grpc.aio.Channel):
    """Makes calls as `open_channel` says. It is no interceptor of gRPC's, which takes a task and more for each call."""

    def __init__(self, channel: grpc.aio.Channel, service: str, timeout_seconds: float) -> None:
        self._channel = channel
        self._service = service
        self._timeout_seconds = timeout_seconds

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        inner: Any = self._channel.unary_unary(*args, **options)

        async def call(request: Any, *, timeout: float | None = None, wait_for_ready: bool = True) -> Any:
            left = bounded(timeout or self._timeout_seconds)
            try:
                return await inner(request, timeout=left, metadata=as_metadata(), wait_for_ready=wait_for_ready)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, service=self._service) from error

        return call

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        inner: Any = self._channel.unary_stream(*args, **options)

        def call(request: Any, *, timeout: float | None = None) -> _Stream:
            metadata = as_metadata()
            return _Stream(
                lambda: inner(request, timeout=bounded(timeout), metadata=metadata, wait_for_ready=True), self._service
            )

        return call

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._channel.stream_unary(*args, **options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._channel.stream_stream(*args, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()


class _Stream:
    """The messages of one call, which is made as they are asked for."""

    def __init__(self, begin: Callable[[], Any], service: str) -> None:
        self._begin = begin
        self._service = service
        self._call: Any = None
        self._messages = self._read()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._messages

    async def _read(self) -> AsyncIterator[Any]:
        self._call = self._begin()
        try:
            async for message in self._call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service=self._service) from error
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Ends the call, if it has begun."""
        if self._call is not None:
            self._call.cancel()
