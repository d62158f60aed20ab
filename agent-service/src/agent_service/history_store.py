"""What storage-service keeps of how tasks were run: checkpoints, tool calls and events; and tasks made from it."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc.aio
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import event_store_pb2, event_store_pb2_grpc, history_store_pb2, history_store_pb2_grpc
from hearth_runtime.checkpoints import RecordedCall, SavedCheckpoint, TypedBytes
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.errors import Unavailable
from hearth_runtime.events import Event, EventKind
from hearth_runtime.tasks import Task

from agent_service.replay import Record

PAGE_SIZE = 500
EVENTS_PAGE_SIZE = 5000
# A task's last events are kept a moment after its row says that it has ended.
EVENTS_SECONDS = 20.0
LOOK_SECONDS = 0.25
# What a replay needs of a run's events.
KINDS = (
    event_pb2.Event.KIND_STATUS,
    event_pb2.Event.KIND_LOG,
    event_pb2.Event.KIND_STEP,
    event_pb2.Event.KIND_MESSAGE,
    event_pb2.Event.KIND_USAGE,
)


@dataclass(frozen=True, kw_only=True)
class NewFork:
    """ForkTaskRequest of hearth.storage.v1."""

    id: str
    task_id: str
    checkpoint_id: str | None
    checkpoint: TypedBytes | None
    input: dict[str, Any] | None
    answers: dict[str, Any]
    idempotency_key: str | None
    request_hash: str
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class NewReplay:
    """ReplayTaskRequest of hearth.storage.v1."""

    id: str
    task_id: str
    idempotency_key: str | None
    request_hash: str
    traceparent: str


class StoredHistories:
    """The histories that are kept. Everything raises TaskNotFound and HistoryExpired."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = history_store_pb2_grpc.HistoryStoreServiceStub(channel)
        self._events = event_store_pb2_grpc.EventStoreServiceStub(channel)

    async def checkpoints(self, task_id: str, *, size: int, token: str) -> tuple[tuple[SavedCheckpoint, ...], str]:
        """The checkpoints of the task's own graph, the first one first, and the token of the next page."""
        answer = await self._stub.ListSavedCheckpoints(
            history_store_pb2.ListSavedCheckpointsRequest(task_id=task_id, page_size=size, page_token=token)
        )
        return tuple(from_message(c, SavedCheckpoint) for c in answer.checkpoints), answer.next_page_token

    async def fork(self, new: NewFork) -> tuple[Task, bool]:
        """Raises CheckpointNotFound, AgentInactive, TaskNotReplayable, IdempotencyConflict, QueueFull."""
        answer = await self._stub.ForkTask(to_message(new, history_store_pb2.ForkTaskRequest))
        return from_message(answer.task, Task), answer.created

    async def replay(self, new: NewReplay) -> tuple[Task, bool]:
        """Raises TaskNotReplayable, IdempotencyConflict, QueueFull."""
        answer = await self._stub.ReplayTask(to_message(new, history_store_pb2.ReplayTaskRequest))
        return from_message(answer.task, Task), answer.created

    async def record(self, task: Task) -> Record:
        """What the task, which has ended, was answered. Raises Unavailable where its events are not kept yet."""
        deadline = asyncio.get_running_loop().time() + EVENTS_SECONDS
        while True:
            record = Record(await self._calls(task.id))
            if await self._read_events(task, record):
                return record
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"The last events of task {task.id} are not kept yet. Is log-service running?")
            await asyncio.sleep(LOOK_SECONDS)

    async def _calls(self, task_id: str) -> dict[str, RecordedCall]:
        calls: dict[str, RecordedCall] = {}
        token = ""
        while True:
            answer = await self._stub.ListRecordedCalls(
                history_store_pb2.ListRecordedCallsRequest(task_id=task_id, page_size=PAGE_SIZE, page_token=token)
            )
            for message in answer.calls:
                call = from_message(message, RecordedCall)
                calls[call.call_id] = call
            token = answer.next_page_token
            if not token:
                return calls

    async def _read_events(self, task: Task, record: Record) -> bool:
        """Adds what the events tell; whether the last one is there, which has the time of the task's end."""
        token, has_end = "", False
        where = log_service_pb2.EventFilter(task_ids=[task.id], kinds=KINDS)
        while True:
            answer = await self._events.ListEvents(
                event_store_pb2.ListEventsRequest(page_size=EVENTS_PAGE_SIZE, page_token=token, filter=where)
            )
            for message in answer.events:
                event = from_message(message, Event)
                record.add(event)
                has_end = has_end or (event.kind is EventKind.STATUS and event.timestamp == task.completed_at)
            token = answer.next_page_token
            if not token:
                return has_end
