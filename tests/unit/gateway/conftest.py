"""The gateway over HTTP, as a client meets it, in front of the services in memory."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fakes.services import Services
from gateway.main import serve
from gateway.settings import GatewaySettings
from websockets.asyncio.client import ClientConnection, connect


@dataclass(kw_only=True)
class World:
    """A gateway, the services behind it and a client before it."""

    services: Services
    settings: GatewaySettings
    port: int
    http: httpx.AsyncClient
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def socket(self, path: str, **options: Any) -> connect:
        """A WebSocket to `path` below /api/v1/ws."""
        return connect(f"ws://127.0.0.1:{self.port}/api/v1/ws{path}", proxy=None, **options)


@asynccontextmanager
async def open_world(**options: Any) -> AsyncIterator[World]:
    """A world of its own, with these settings."""
    async with Services() as services:
        listener = socket.create_server(("127.0.0.1", 0))
        settings = GatewaySettings(
            agent_address=services.agent.address,
            inference_address=services.inference.address,
            log_address=services.log.address,
            storage_address=services.storage.address,
            **{"grace_seconds": 3, "rpc_timeout_seconds": 5, **options},
        )
        port = listener.getsockname()[1]
        stopping = asyncio.Event()
        serving = asyncio.create_task(serve(settings, listener, stopping))
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=20) as http:
            yield World(services=services, settings=settings, port=port, http=http, stopping=stopping)
        stopping.set()
        await serving


@pytest.fixture(scope="session")
async def world() -> AsyncIterator[World]:
    """A world for tests that leave it as it was."""
    async with open_world() as opened:
        yield opened


async def until[T](reached: Callable[[], T | Awaitable[T]], *, seconds: float = 10) -> T:
    """What `reached` gives as soon as it is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = reached()
            result = await value if isinstance(value, Awaitable) else value
            if result:
                return result
            await asyncio.sleep(0.01)


__all__ = ["ClientConnection", "World", "open_world", "until"]
