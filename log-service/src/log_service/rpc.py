"""LogService over gRPC: translates between messages and this service's values."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from hearth.log.v1 import event_pb2, log_service_pb2, log_service_pb2_grpc
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import is_id

from log_service.batches import by_size
from log_service.dead_letters import DeadLetters
from log_service.filters import EventFilter
from log_service.storage import StoredEvents
from log_service.streams import End, Heartbeat, Item, Streams

MAX_PAGE_SIZE = 500
# More of events are not put into one message of a stream.
MESSAGE_BYTES = 256 * 1024

HEARTBEAT = log_service_pb2.StreamEventsResponse(heartbeat=log_service_pb2.StreamEventsResponse.Heartbeat())


class LogRpc(log_service_pb2_grpc.LogServiceServicer):
    """The public calls."""

    def __init__(self, streams: Streams, events: StoredEvents, dead_letters: DeadLetters) -> None:
        self._streams = streams
        self._events = events
        self._dead_letters = dead_letters

    async def StreamEvents(
        self, request: log_service_pb2.StreamEventsRequest, context: Any
    ) -> AsyncIterator[log_service_pb2.StreamEventsResponse]:
        cursor = None
        if request.HasField("after_stream_id"):
            cursor = _place(request.after_stream_id, field="after_stream_id")
        async for item in self._streams.stream(_filter(request.filter), cursor=cursor, until_end=request.until_end):
            for response in _responses(item):
                yield response

    async def ListEvents(
        self, request: log_service_pb2.ListEventsRequest, context: Any
    ) -> log_service_pb2.ListEventsResponse:
        events, token = await self._events.page(
            _filter(request.filter),
            size=_page_size(request.page_size),
            token=request.page_token,
            descending=request.descending,
        )
        return log_service_pb2.ListEventsResponse(
            events=[to_message(e, event_pb2.Event) for e in events], next_page_token=token
        )

    async def GetSubscription(
        self, request: log_service_pb2.GetSubscriptionRequest, context: Any
    ) -> log_service_pb2.GetSubscriptionResponse:
        subscription = await self._events.subscription(request.name)
        return log_service_pb2.GetSubscriptionResponse(
            subscription=to_message(subscription, log_service_pb2.Subscription)
        )

    async def SaveSubscription(
        self, request: log_service_pb2.SaveSubscriptionRequest, context: Any
    ) -> log_service_pb2.SaveSubscriptionResponse:
        last_seen = None
        if request.HasField("last_seen_stream_id"):
            last_seen = _place(request.last_seen_stream_id, field="last_seen_stream_id")
        subscription = await self._events.save_subscription(
            request.name,
            wanted=_filter(request.filter) if request.HasField("filter") else None,
            last_seen=last_seen,
        )
        return log_service_pb2.SaveSubscriptionResponse(
            subscription=to_message(subscription, log_service_pb2.Subscription)
        )

    async def ListDeadLetters(
        self, request: log_service_pb2.ListDeadLettersRequest, context: Any
    ) -> log_service_pb2.ListDeadLettersResponse:
        letters, token = await self._dead_letters.page(size=_page_size(request.page_size), token=request.page_token)
        return log_service_pb2.ListDeadLettersResponse(
            dead_letters=[to_message(letter, log_service_pb2.DeadLetter) for letter in letters], next_page_token=token
        )

    async def GetDeadLetter(
        self, request: log_service_pb2.GetDeadLetterRequest, context: Any
    ) -> log_service_pb2.GetDeadLetterResponse:
        letter = await self._dead_letters.get(request.id)
        return log_service_pb2.GetDeadLetterResponse(dead_letter=to_message(letter, log_service_pb2.DeadLetter))

    async def RequeueDeadLetters(
        self, request: log_service_pb2.RequeueDeadLettersRequest, context: Any
    ) -> log_service_pb2.RequeueDeadLettersResponse:
        if len(request.ids) > MAX_PAGE_SIZE:
            raise _invalid("ids", f"must be at most {MAX_PAGE_SIZE}")
        count, refused = await self._dead_letters.requeue(request.ids)
        return log_service_pb2.RequeueDeadLettersResponse(
            requeued_count=count, refused=[to_message(letter, log_service_pb2.DeadLetter) for letter in refused]
        )


def _responses(item: Item) -> Iterator[log_service_pb2.StreamEventsResponse]:
    """What is to be sent: of events as few messages as may be, none of them much larger than one event may be."""
    match item:
        case Heartbeat():
            yield HEARTBEAT
        case End(status=status):
            yield log_service_pb2.StreamEventsResponse(
                end=log_service_pb2.StreamEventsResponse.End(status=status.value)
            )
        case _:
            messages = (to_message(event, event_pb2.Event) for event in item)
            for part in by_size(messages, event_pb2.Event.ByteSize, limit=MESSAGE_BYTES):
                yield log_service_pb2.StreamEventsResponse(
                    events=log_service_pb2.StreamEventsResponse.Events(events=part)
                )


def _filter(message: log_service_pb2.EventFilter) -> EventFilter:
    for field, numbers in (("levels", message.levels), ("kinds", message.kinds)):
        if 0 in numbers:
            raise _invalid(f"filter.{field}", "has a value that is not specified")
    for field, ids in (("task_ids", message.task_ids), ("agent_ids", message.agent_ids)):
        if not all(map(is_id, ids)):
            raise _invalid(f"filter.{field}", "must be UUIDs")
    try:
        wanted = from_message(message, EventFilter)
    except (ValueError, OverflowError) as error:
        raise _invalid("filter", str(error)) from error
    # PostgreSQL compares UUIDs, and events in memory have them in small letters.
    return replace(wanted, task_ids=_lower(wanted.task_ids), agent_ids=_lower(wanted.agent_ids))


def _lower(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.lower() for text in ids)


def _place(text: str, *, field: str) -> StreamId:
    try:
        return StreamId.parse(text)
    except ValueError as error:
        raise _invalid(field, str(error)) from error


def _page_size(value: int) -> int:
    if not 1 <= value <= MAX_PAGE_SIZE:
        raise _invalid("page_size", f"must be from 1 to {MAX_PAGE_SIZE}")
    return value


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {message}", fields=[FieldViolation(field=field, message=message)])
