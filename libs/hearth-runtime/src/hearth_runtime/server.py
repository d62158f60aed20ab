"""A gRPC server with what every service has: typed errors, deadlines, health, reflection, metrics, a graceful end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import ModuleType
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from loguru import logger
from prometheus_client import Counter, Histogram

from hearth_runtime.channels import MAX_MESSAGE_BYTES
from hearth_runtime.deadlines import within
from hearth_runtime.dependencies import Dependency, RuntimeRpc
from hearth_runtime.errors import Cancelled, HearthError, Undone
from hearth_runtime.principals import acting_for, of_metadata
from hearth_runtime.repeats import NO_REPEAT
from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.tls import server_credentials

SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
]

RPC_SECONDS = Histogram("hearth_rpc_seconds", "Time of an RPC, by method", ["method"])
RPCS = Counter("hearth_rpcs_total", "RPCs that ended, by method and gRPC status", ["method", "code"])


class Server:
    """Register servicers, then `run` until told to stop."""

    def __init__(self, settings: RuntimeSettings, *, dependencies: Sequence[Dependency] = ()) -> None:
        self._settings = settings
        interceptors: list[grpc.aio.ServerInterceptor] = []
        if settings.otlp_endpoint is not None:
            from opentelemetry.instrumentation.grpc import aio_server_interceptor

            interceptors.append(aio_server_interceptor())  # type: ignore[no-untyped-call]
        options = list(SERVER_OPTIONS)
        if not settings.listen_address.startswith("unix:"):
            # Callers look a name up anew when a connection ends. What is under way on it goes on to its own end.
            options.append(("grpc.max_connection_age_ms", int(settings.connection_age_seconds * 1000)))
        self._server = grpc.aio.server(interceptors=interceptors, options=options)
        self._health = HealthServicer()
        self._names: list[str] = []
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names.append(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        self.register(
            runtime_service_pb2_grpc.add_RuntimeServiceServicer_to_server, RuntimeRpc(dependencies), runtime_service_pb2
        )

    def register(self, add_to_server: Callable[[Any, Any], None], servicer: object, module: ModuleType) -> None:
        """Serves `servicer`, whose service the generated `module` (…_pb2) describes."""
        add_to_server(servicer, _Handlers(self._server))
        self._names.extend(s.full_name for s in module.DESCRIPTOR.services_by_name.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Serves until `stopping` is set; then calls under way may end within `grace_seconds`."""
        reflection.enable_server_reflection([*self._names, reflection.SERVICE_NAME], self._server)
        self._listen()
        await self._server.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        logger.info("serving", address=self._settings.listen_address)
        try:
            await stopping.wait()
        finally:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(self._settings.grace_seconds * 0.8)

    def _listen(self) -> None:
        address = self._settings.listen_address
        credentials = None if address.startswith("unix:") else server_credentials(self._settings)
        if credentials is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, credentials)


class _Handlers:
    """What generated code takes for a server: each method answers with the status that an error owns, and hides all
    that is not ours to show. An interceptor of gRPC's would be asked anew for each call."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same as the registered ones."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Serves the methods of the service, each by its name."""
        typed = {name: _typed(f"{service}/{name}", handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, typed),))


def _typed(method: str, handler: Any) -> Any:
    coders = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(method, handler.unary_unary), *coders)
    return grpc.unary_stream_rpc_method_handler(_stream(method, handler.unary_stream), *coders)


def _unary(method: str, inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    ended = _ended(method)

    async def call(request: Any, context: Any) -> Any:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            with within(context.time_remaining()), acting_for(of_metadata(context.invocation_metadata())):
                try:
                    return await inner(request, context)
                except Undone as error:
                    logger.debug("a call is made once more", method=method, reason=error.detail)
                    return await inner(request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - the border: nothing untyped may pass it
            shown = known(error, method)
            code = shown.status
            await context.abort(shown.status, shown.detail, (*shown.trailing_metadata(), NO_REPEAT))
        finally:
            ended(code, started)

    return call


def _stream(method: str, inner: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    ended = _ended(method)

    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            with within(context.time_remaining()), acting_for(of_metadata(context.invocation_metadata())):
                async for message in inner(request, context):
                    yield message
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - the border: nothing untyped may pass it
            shown = known(error, method)
            code = shown.status
            await context.abort(shown.status, shown.detail, (*shown.trailing_metadata(), NO_REPEAT))
        finally:
            ended(code, started)

    return call


def _ended(method: str) -> Callable[[grpc.StatusCode, float], None]:
    """Counts the ends of the method's calls."""
    name = method.removeprefix("hearth.")
    seconds = RPC_SECONDS.labels(name)
    ends = {grpc.StatusCode.OK: RPCS.labels(name, grpc.StatusCode.OK.name)}

    def ended(code: grpc.StatusCode, started: float) -> None:
        if code not in ends:
            ends[code] = RPCS.labels(name, code.name)
        ends[code].inc()
        seconds.observe(time.perf_counter() - started)

    return ended


def known(error: Exception, method: str) -> HearthError:
    """The error as whoever calls the method may see it: one that is not typed is for the log."""
    if isinstance(error, HearthError):
        return error
    if isinstance(error, grpc.aio.AbortError):
        return Cancelled()
    reference = uuid4().hex[:8]
    logger.opt(exception=error).error("an RPC failed unexpectedly", method=method, reference=reference)
    return HearthError(f"An unexpected error. The service's log has it under reference {reference}.")
