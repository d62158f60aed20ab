"""The process `log`: persists the events of runs and streams them."""

import asyncio
from contextlib import AsyncExitStack

from hearth.log.v1 import log_service_pb2, log_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.lifecycle import run
from hearth_runtime.redis_streams import connect, redis_dependency
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings

from log_service.consumer import EventConsumer
from log_service.dead_letters import DeadLetters
from log_service.ends import TaskEnds
from log_service.persistence import Persistence
from log_service.rpc import LogRpc
from log_service.settings import LogSettings
from log_service.storage import StoredEvents, StoredTasks
from log_service.streams import Streams
from log_service.tail import Tail
from log_service.watermark import Retention, Watermark
from log_service.window import Window


async def serve(settings: LogSettings, stopping: asyncio.Event) -> None:
    """Runs the process until `stopping` is set."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel("storage", settings.storage_address, settings))
        redis = await stack.enter_async_context(connect(settings.redis_url))
        tail_redis = await stack.enter_async_context(connect(settings.redis_url))

        events = StoredEvents(channel)
        window = Window(max_events=settings.window_events, max_bytes=settings.window_bytes)
        watermark = Watermark(redis)
        consumer = EventConsumer(
            redis,
            Persistence(redis, events, stopping, traced=settings.otlp_endpoint is not None),
            url=settings.redis_url,
            batch=settings.event_batch,
            claim_seconds=settings.event_claim_seconds,
            grace_seconds=settings.grace_seconds,
        )
        tail = Tail(tail_redis, window, watermark, batch=settings.event_batch, rescue=consumer.rescue)
        retention = Retention(redis, window, watermark, seconds=settings.watermark_seconds)
        streams = Streams(
            events=events,
            window=window,
            tail=tail,
            ends=TaskEnds(StoredTasks(channel), tail),
            heartbeat_seconds=settings.stream_heartbeat_seconds,
            max_streams=settings.max_streams,
            stopping=stopping,
        )

        rpc = LogRpc(streams, events, DeadLetters(redis, events))
        server = Server(settings, dependencies=[redis_dependency(redis, required=True)])
        server.register(log_service_pb2_grpc.add_LogServiceServicer_to_server, rpc, log_service_pb2)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(stopping))
            group.create_task(consumer.run(stopping))
            group.create_task(tail.run(stopping))
            group.create_task(retention.run(stopping))


def main() -> None:
    """Runs the process."""
    settings = load_settings(LogSettings)
    run("log", settings, lambda stopping: serve(settings, stopping))
