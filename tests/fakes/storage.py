"""A storage-service without PostgreSQL: events and the states of tasks, in memory, over real gRPC."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from hearth.agent.v1 import task_pb2
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import event_store_pb2, event_store_pb2_grpc, task_store_pb2, task_store_pb2_grpc
from hearth_runtime.codec import timestamp
from hearth_runtime.errors import InvalidArgument, SubscriptionNotFound
from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings


class FakeStorage(event_store_pb2_grpc.EventStoreServiceServicer, task_store_pb2_grpc.TaskStoreServiceServicer):
    """What is stored is in `events` and `tasks`; `start` and `stop` make it come and go."""

    def __init__(self, folder: str) -> None:
        self.address = f"unix:{folder}/s"
        self.events: dict[StreamId, event_pb2.Event] = {}
        self.tasks: dict[str, task_store_pb2.GetTaskStatesResponse.TaskState] = {}
        self.subscriptions: dict[str, log_service_pb2.Subscription] = {}
        self.appended: list[list[StreamId]] = []
        self.row_reads = 0
        self.scan_limits: list[int] = []  # of the lists that were asked for
        # Events with this in their message are refused, as those that PostgreSQL cannot store.
        self.refused = "\0"
        # Events with this in their message make it fail as if by a fault of its own.
        self.fault = "\0"
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._stopping = asyncio.Event()
        server = Server(RuntimeSettings(listen_address=self.address, grace_seconds=0.1))
        server.register(event_store_pb2_grpc.add_EventStoreServiceServicer_to_server, self, event_store_pb2)
        server.register(task_store_pb2_grpc.add_TaskStoreServiceServicer_to_server, self, task_store_pb2)
        self._running = asyncio.create_task(server.run(self._stopping))

    async def stop(self) -> None:
        self._stopping.set()
        if self._running is not None:
            await self._running
            self._running = None

    def set_task(self, task_id: str, status: str, *, end_settled: bool = False) -> None:
        """Makes the task, or changes its state."""
        self.tasks[task_id] = task_store_pb2.GetTaskStatesResponse.TaskState(
            id=task_id, status=task_pb2.Task.Status.Value(f"STATUS_{status.upper()}"), end_settled=end_settled
        )

    async def AppendEvents(self, request: Any, context: Any) -> event_store_pb2.AppendEventsResponse:
        assert request.events
        for event in request.events:
            if self.refused in event.message:
                raise InvalidArgument("This event cannot be stored.")
            if self.fault in event.message:
                raise ValueError(event.message)
            if event.kind == event_pb2.Event.KIND_DELTA:
                raise InvalidArgument("Deltas are not stored.")
        before = len(self.events)
        places = [StreamId.parse(event.stream_id) for event in request.events]
        self.appended.append(places)
        for place, event in zip(places, request.events, strict=True):
            self.events.setdefault(place, event)
        return event_store_pb2.AppendEventsResponse(stored_count=len(self.events) - before)

    async def ListEvents(self, request: Any, context: Any) -> event_store_pb2.ListEventsResponse:
        self.scan_limits.append(request.scan_limit)
        after = StreamId.parse(request.after_stream_id) if request.HasField("after_stream_id") else StreamId(-1, 0)
        before = StreamId.parse(request.before_stream_id) if request.HasField("before_stream_id") else None
        if request.page_token and not request.descending:
            after = StreamId.parse(request.page_token)
        elif request.page_token:
            before = StreamId.parse(request.page_token)
        found = [
            self.events[place]
            for place in sorted(self.events, reverse=request.descending)
            if place > after and (before is None or place < before) and _matches(request.filter, self.events[place])
        ]
        page = found[: request.page_size]
        more = len(found) > len(page)
        return event_store_pb2.ListEventsResponse(events=page, next_page_token=page[-1].stream_id if more else "")

    async def GetTaskStates(self, request: Any, context: Any) -> task_store_pb2.GetTaskStatesResponse:
        self.row_reads += 1
        return task_store_pb2.GetTaskStatesResponse(states=[self.tasks[id] for id in request.ids if id in self.tasks])

    async def GetSubscription(self, request: Any, context: Any) -> event_store_pb2.GetSubscriptionResponse:
        if request.name not in self.subscriptions:
            raise SubscriptionNotFound(f"No subscription {request.name}.")
        return event_store_pb2.GetSubscriptionResponse(subscription=self.subscriptions[request.name])

    async def SaveSubscription(self, request: Any, context: Any) -> event_store_pb2.SaveSubscriptionResponse:
        subscription = self.subscriptions.setdefault(
            request.name,
            log_service_pb2.Subscription(id=new_id(), name=request.name, created_at=timestamp(datetime.now(UTC))),
        )
        if request.HasField("filter"):
            subscription.filter.CopyFrom(request.filter)
        if request.HasField("last_seen_stream_id"):
            subscription.last_seen_stream_id = request.last_seen_stream_id
            subscription.last_seen_timestamp.CopyFrom(request.last_seen_timestamp)
        return event_store_pb2.SaveSubscriptionResponse(subscription=subscription)


def _matches(wanted: log_service_pb2.EventFilter, event: event_pb2.Event) -> bool:
    return (
        (not wanted.task_ids or event.task_id in wanted.task_ids)
        and (not wanted.agent_ids or event.agent_id in wanted.agent_ids)
        and (not wanted.kinds or event.kind in wanted.kinds)
        and (not wanted.levels or event.level in wanted.levels)
        and wanted.contains.lower() in event.message.lower()
    )


@asynccontextmanager
async def fake_storage() -> AsyncIterator[FakeStorage]:
    """One that serves."""
    folder = tempfile.mkdtemp(prefix="h")
    storage = FakeStorage(folder)
    await storage.start()
    try:
        yield storage
    finally:
        await storage.stop()
        shutil.rmtree(folder)
