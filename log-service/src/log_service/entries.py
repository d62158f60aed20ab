"""Entries of the event stream as Redis gives them, before they are known to be events."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from hearth_runtime.events import EVENT_FIELD, Event, StreamId
from hearth_runtime.identifiers import is_id

# A call to storage-service takes no message of more than 32 MiB.
MAX_EVENT_BYTES = 8 * 1024 * 1024


class NotAnEvent(ValueError):
    """The entry holds no event; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """What lies in the stream at one place; `value` is empty where the entry lacks the field `event`."""

    place: StreamId
    value: bytes

    def event(self) -> Event:
        """The event. Raises NotAnEvent."""
        if not self.value:
            raise NotAnEvent("it has no field 'event'")
        if len(self.value) > MAX_EVENT_BYTES:
            raise NotAnEvent(f"it has {len(self.value)} bytes; {MAX_EVENT_BYTES} are allowed")
        try:
            event = Event.decode(self.value, stream_id=str(self.place))
        except (DecodeError, ValueError, OverflowError) as error:
            raise NotAnEvent(f"it cannot be decoded: {error}") from error
        for name, value in (("id", event.id), ("task_id", event.task_id), ("agent_id", event.agent_id)):
            if not is_id(value):
                raise NotAnEvent(f"its {name} is no UUID: {value[:64]!r}")
        return event


def place_of(raw_id: Any) -> StreamId:
    """A stream id as Redis sends it: bytes, though redis-py's types allow for more."""
    return StreamId.parse(raw_id.decode())


def entries_of(raw: Iterable[tuple[Any, Any]]) -> list[StreamEntry]:
    """Entries of a reply, in its order: pairs of a stream id and its fields by name, all in bytes."""
    return [StreamEntry(place=place_of(raw_id), value=fields.get(EVENT_FIELD, b"")) for raw_id, fields in raw]
