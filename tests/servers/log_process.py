"""log-service run in this process, and what its tests do with it: publish, subscribe."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc.aio
from hearth.log.v1 import event_pb2, log_service_pb2, log_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from log_service.main import serve
from log_service.settings import LogSettings
from redis.asyncio import Redis

AGENT_ID = new_id()


@dataclass(kw_only=True)
class LogProcess:
    """A log-service that serves; `stop` ends it as SIGTERM does."""

    # Its types are those of a channel that does not await.
    stub: Any
    channel: grpc.aio.Channel
    address: str
    stopping: asyncio.Event
    running: asyncio.Task[None]

    async def stop(self) -> None:
        self.stopping.set()
        await self.running


@asynccontextmanager
async def log_process(redis_url: str, storage_address: str, **changes: Any) -> AsyncIterator[LogProcess]:
    """Serves with settings that make waits short; `changes` names others."""
    folder = tempfile.mkdtemp(prefix="h")
    settings = LogSettings(
        **{
            "listen_address": f"unix:{folder}/s",
            "storage_address": storage_address,
            "redis_url": redis_url,
            "grace_seconds": 3.0,
            "rpc_timeout_seconds": 2.0,
            "watermark_seconds": 0.1,
            "event_claim_seconds": 1.0,
            **changes,
        }
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(serve(settings, stopping))
    async with open_channel("log", settings.listen_address, settings) as channel:
        log = LogProcess(
            stub=log_service_pb2_grpc.LogServiceStub(channel),
            channel=channel,
            address=settings.listen_address,
            stopping=stopping,
            running=running,
        )
        try:
            yield log
        finally:
            await log.stop()
    shutil.rmtree(folder)


def event(task_id: str, message: str, *, kind: EventKind = EventKind.LOG, **changes: Any) -> Event:
    """An event to publish."""
    fields: dict[str, Any] = {
        "stream_id": "",
        "id": new_id(),
        "task_id": task_id,
        "agent_id": AGENT_ID,
        "attempt": 1,
        "kind": kind,
        "level": EventLevel.INFO,
        "message": message,
        "context": {},
        "timestamp": datetime.now(UTC),
        "traceparent": "",
        **changes,
    }
    return Event(**fields)


async def publish(redis: Redis, *events: Event) -> list[str]:
    """Publishes as agent-service does; returns the stream ids."""
    async with redis.pipeline(transaction=False) as pipe:
        for item in events:
            pipe.xadd(EVENTS_STREAM, {EVENT_FIELD: item.encode()})
        return [raw.decode() for raw in await pipe.execute()]


def of_task(
    task_id: str, *, after: str | None = None, until_end: bool = True, kinds: Sequence[Any] = ()
) -> log_service_pb2.StreamEventsRequest:
    """A request for one task's events."""
    return log_service_pb2.StreamEventsRequest(
        filter=log_service_pb2.EventFilter(task_ids=[task_id], kinds=kinds),
        after_stream_id=after,
        until_end=until_end,
    )


@dataclass(kw_only=True)
class Received:
    """What a stream has brought so far."""

    events: list[event_pb2.Event] = field(default_factory=list)
    heartbeats: int = 0
    end: str = ""

    @property
    def ids(self) -> list[str]:
        return [e.stream_id for e in self.events]

    @property
    def messages(self) -> list[str]:
        return [e.message for e in self.events]

    def take(self, response: log_service_pb2.StreamEventsResponse) -> None:
        match response.WhichOneof("item"):
            case "events":
                self.events.extend(response.events.events)
            case "heartbeat":
                self.heartbeats += 1
            case "end":
                self.end = response.end.status


class Subscriber:
    """Reads a stream in the background into `received`; `done` is its task."""

    def __init__(self, stub: Any, request: log_service_pb2.StreamEventsRequest) -> None:
        self.received = Received()
        self.opened = asyncio.Event()
        self._call = stub.StreamEvents(request)
        self.done = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for response in self._call:
                self.received.take(response)
                self.opened.set()
        finally:
            self.opened.set()

    async def close(self) -> None:
        self.done.cancel()
        await asyncio.gather(self.done, return_exceptions=True)


@asynccontextmanager
async def subscriber(stub: Any, request: log_service_pb2.StreamEventsRequest) -> AsyncIterator[Subscriber]:
    """A subscriber whose stream is open."""
    reading = Subscriber(stub, request)
    try:
        async with asyncio.timeout(20):
            await reading.opened.wait()
        yield reading
    finally:
        await reading.close()


async def whole(stub: Any, request: log_service_pb2.StreamEventsRequest, *, seconds: float = 20) -> Received:
    """All that a stream brings until it ends."""
    received = Received()
    async with asyncio.timeout(seconds):
        async for response in stub.StreamEvents(request):
            received.take(response)
    return received
