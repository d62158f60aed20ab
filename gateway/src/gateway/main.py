"""The gateway: the public contract over HTTP, and gRPC to the services that own its nouns."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from functools import partial

import uvicorn
from fastapi import FastAPI
from hearth_runtime.lifecycle import run
from hearth_runtime.settings import load_settings
from loguru import logger

from gateway.application import create_app
from gateway.audit import Audit
from gateway.callers import Callers
from gateway.dependencies import Gateway, connect
from gateway.http_protocol import http_protocol
from gateway.settings import GatewaySettings
from gateway.streams import Streams
from gateway.websocket_protocol import WebSocketProtocol

BACKLOG = 2048


def main() -> None:
    """Runs the gateway until SIGTERM or SIGINT."""
    settings = load_settings(GatewaySettings)
    if not settings.is_login_decided:
        sys.stderr.write(
            f"Hearth does not serve on {settings.publish or settings.host} without a login, which would let in "
            "everybody. Set HEARTH_LOGIN=required and make a key with `hearth-admin keys create`, or set "
            "HEARTH_JWT_ISSUER and what belongs to it; HEARTH_LOGIN=none lets everybody in. See docs/security.md.\n"
        )
        sys.exit(2)
    try:
        listener = listen(settings)
    except OSError as error:
        sys.stderr.write(
            f"Hearth cannot serve on {settings.host}:{settings.port}: {error.strerror or error}. "
            "Set HEARTH_PORT (and HEARTH_HOST) to a free port, or stop what uses this one.\n"
        )
        sys.exit(1)
    run("gateway", settings, partial(serve, settings, listener))


async def serve(settings: GatewaySettings, listener: socket.socket, stopping: asyncio.Event) -> None:
    """Serves on `listener` until `stopping` is set; then requests may end, and streams end so that they can resume."""
    async with connect(settings) as services:
        streams = Streams(services.logs, settings)
        callers, audit = Callers(services.keys, settings), Audit(services.keys)
        app = create_app(Gateway(settings=settings, services=services, streams=streams, callers=callers, audit=audit))
        server = _server(app, settings)

        async def stop() -> None:
            await stopping.wait()
            streams.stop()
            server.should_exit = True

        stopper = asyncio.create_task(stop())
        background = [
            asyncio.create_task(streams.watch(callers, settings.key_cache_seconds)),
            asyncio.create_task(audit.run(stopping)),
        ]
        host, port = listener.getsockname()[:2]
        logger.info("serving", address=f"http://{host}:{port}")
        try:
            await server.serve([listener])
        finally:
            stopper.cancel()
            background[0].cancel()
            await asyncio.wait(background, timeout=settings.grace_seconds * 0.1)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: `hearth_runtime.lifecycle` has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI, settings: GatewaySettings) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            app,
            http=http_protocol(settings.head_timeout_seconds),
            ws=WebSocketProtocol,
            ws_max_size=settings.max_frame_bytes,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # A connection's requests would otherwise begin in the context in which its transport was last resumed: that
            # of an earlier request, with its deadline and its trace.
            reset_contextvars=True,
            timeout_graceful_shutdown=max(1, int(settings.grace_seconds * 0.8)),
        )
    )


def listen(settings: GatewaySettings) -> socket.socket:
    """A socket that clients can connect to from now on. Raises OSError where the settings' address is not to be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY on no other connections: without it each answer waits for
    # a delayed acknowledgement, 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
