"""The gateway over HTTP, as a client meets it, in front of the services in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fakes.services import Services, State
from gateway.main import listen, serve
from gateway.settings import GatewaySettings
from websockets.asyncio.client import ClientConnection, connect


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A server-sent event."""

    id: str
    event: str
    data: Any


@dataclass(kw_only=True)
class World:
    """A gateway, the services behind it and a client before it."""

    services: Services
    settings: GatewaySettings
    port: int
    http: httpx.AsyncClient
    stopping: asyncio.Event

    @property
    def state(self) -> State:
        """What the services know."""
        return self.services.state

    @asynccontextmanager
    async def socket(self, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
        """A WebSocket to `path` below /api/v1/ws."""
        async with connect(f"ws://127.0.0.1:{self.port}/api/v1/ws{path}", proxy=None, **options) as opened:
            yield opened

    @asynccontextmanager
    async def stream(
        self, task_id: str, *, after: str | None = None, **params: Any
    ) -> AsyncIterator[AsyncIterator[Sent]]:
        """The task's server-sent events as they come."""
        headers = {} if after is None else {"Last-Event-ID": after}
        async with self.http.stream("GET", f"/logs/stream/{task_id}", headers=headers, params=params) as answer:
            assert answer.status_code == 200, await answer.aread()
            yield _parsed(answer.aiter_lines())


async def _parsed(lines: AsyncIterator[str]) -> AsyncIterator[Sent]:
    fields: dict[str, str] = {}
    async for line in lines:
        if line == "":
            if "data" in fields:
                yield Sent(id=fields.get("id", ""), event=fields["event"], data=json.loads(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


@asynccontextmanager
async def open_world(**options: Any) -> AsyncIterator[World]:
    """A world of its own, with these settings."""
    async with Services() as services:
        settings = GatewaySettings(
            agent_address=services.agent.address,
            inference_address=services.inference.address,
            log_address=services.log.address,
            storage_address=services.storage.address,
            **{"port": 0, "grace_seconds": 3, "rpc_timeout_seconds": 5, **options},
        )
        listener = listen(settings)
        port = listener.getsockname()[1]
        stopping = asyncio.Event()
        serving = asyncio.create_task(serve(settings, listener, stopping))
        url = f"http://127.0.0.1:{port}/api/v1"
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as http:
                yield World(services=services, settings=settings, port=port, http=http, stopping=stopping)
        finally:
            stopping.set()
            await serving


async def until(reached: Callable[[], Any | Awaitable[Any]], *, seconds: float = 10) -> Any:
    """What `reached` gives as soon as it is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = reached()
            if isinstance(value, Awaitable):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)
