"""storage-service as log-service sees it: its RPCs in this service's own values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import grpc.aio
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import event_store_pb2, event_store_pb2_grpc, task_store_pb2, task_store_pb2_grpc
from hearth_runtime.codec import from_message, timestamp, to_message
from hearth_runtime.events import Event, StreamId
from hearth_runtime.tasks import TaskStatus

from log_service.filters import EventFilter
from log_service.subscriptions import Subscription, time_of

# So many events that no index finds are looked at for one page: some 15 ms, however many there are in all.
SCAN_LIMIT = 10_000
STATES_LIMIT = 500


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """How far a task is, by its row; `end_settled` tells that its last event is in the event stream."""

    id: str
    status: TaskStatus
    end_settled: bool


class StoredTasks:
    """The table `tasks`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = task_store_pb2_grpc.TaskStoreServiceStub(channel)

    async def states(self, task_ids: Iterable[str]) -> Mapping[str, TaskState]:
        """How far those of the tasks are that are there, by their ids; at most STATES_LIMIT are asked for."""
        answer = await self._stub.GetTaskStates(task_store_pb2.GetTaskStatesRequest(ids=task_ids))
        return {state.id: from_message(state, TaskState) for state in answer.states}


class StoredEvents:
    """The tables `task_logs` and `log_subscriptions`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = event_store_pb2_grpc.EventStoreServiceStub(channel)

    async def append(self, events: Sequence[Event]) -> int:
        """Stores published events; those that are there already are passed over. Returns how many were new."""
        messages = [to_message(e, event_pb2.Event) for e in events]
        answer = await self._stub.AppendEvents(event_store_pb2.AppendEventsRequest(events=messages))
        return answer.stored_count

    async def page(
        self, wanted: EventFilter, *, size: int, token: str, descending: bool
    ) -> tuple[tuple[Event, ...], str]:
        """A page of events by stream id, and the token of the next one: where few match, it is short or empty."""
        request = event_store_pb2.ListEventsRequest(
            page_size=size,
            page_token=token,
            filter=to_message(wanted, log_service_pb2.EventFilter),
            descending=descending,
            scan_limit=SCAN_LIMIT,
        )
        return _events(await self._stub.ListEvents(request))

    async def between(
        self, wanted: EventFilter, *, after: StreamId, before: StreamId, size: int, token: str
    ) -> tuple[tuple[Event, ...], str]:
        """A page of the events in between, both ends excluded, and the token of the next one: where few match, it is
        short or empty."""
        request = event_store_pb2.ListEventsRequest(
            page_size=size,
            page_token=token,
            filter=to_message(wanted, log_service_pb2.EventFilter),
            after_stream_id=str(after),
            before_stream_id=str(before),
            scan_limit=SCAN_LIMIT,
        )
        return _events(await self._stub.ListEvents(request))

    async def subscription(self, name: str) -> Subscription:
        """Raises SubscriptionNotFound."""
        answer = await self._stub.GetSubscription(event_store_pb2.GetSubscriptionRequest(name=name))
        return from_message(answer.subscription, Subscription)

    async def save_subscription(
        self, name: str, *, wanted: EventFilter | None, last_seen: StreamId | None
    ) -> Subscription:
        """Creates the subscription or changes what is given of it; its place only moves forward."""
        request = event_store_pb2.SaveSubscriptionRequest(
            name=name,
            filter=to_message(wanted, log_service_pb2.EventFilter) if wanted is not None else None,
            last_seen_stream_id=str(last_seen) if last_seen is not None else None,
            last_seen_timestamp=timestamp(time_of(last_seen)) if last_seen is not None else None,
        )
        answer = await self._stub.SaveSubscription(request)
        return from_message(answer.subscription, Subscription)


def _events(answer: event_store_pb2.ListEventsResponse) -> tuple[tuple[Event, ...], str]:
    return tuple(from_message(e, Event) for e in answer.events), answer.next_page_token
