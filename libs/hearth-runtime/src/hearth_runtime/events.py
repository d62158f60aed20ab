"""Events: what happens in a run, as every service knows it, and how it lies in the Redis stream `hearth.events`."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hearth.log.v1 import event_pb2

from hearth_runtime.codec import from_message, to_message

EVENTS_STREAM = "hearth.events"
# The one field of a stream entry: the event as a serialised hearth.log.v1.Event without its stream_id.
EVENT_FIELD = b"event"

# The largest sequence number that StreamId reads.
MAX_SEQUENCE = 10**18 - 1
_STREAM_ID = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,17})")


class EventKind(StrEnum):
    """What sort of event; see docs/events.md for what each carries."""

    STATUS = "status"
    LOG = "log"
    STEP = "step"
    DELTA = "delta"
    MESSAGE = "message"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    USAGE = "usage"
    SUB_TASK = "sub_task"  # an event of a sub-task, told once more at the top of its tree


class EventLevel(StrEnum):
    """How bad, the least first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    def and_worse(self) -> tuple["EventLevel", ...]:
        """This level and the worse ones."""
        levels = tuple(EventLevel)
        return levels[levels.index(self) :]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run. `stream_id` is empty until Redis has given it its place."""

    stream_id: str
    id: str
    task_id: str
    agent_id: str
    attempt: int
    kind: EventKind
    level: EventLevel
    message: str
    context: dict[str, Any]
    timestamp: datetime
    traceparent: str
    owner: str = ""  # its task's

    def encode(self) -> bytes:
        """The value of EVENT_FIELD."""
        return to_message(self, event_pb2.Event).SerializeToString()

    @classmethod
    def decode(cls, value: bytes, *, stream_id: str) -> "Event":
        """What `encode` gave, at its place. Raises ValueError or DecodeError where it is no event."""
        message = event_pb2.Event.FromString(value)
        message.stream_id = stream_id
        event = from_message(message, cls)
        # The annotation says dict, but the text may be any JSON.
        if not isinstance(event.context, dict):
            raise ValueError("its context is no JSON object")  # noqa: TRY004 - the value is wrong, not the caller
        return event


@dataclass(frozen=True, order=True)
class StreamId:
    """A place in the stream: milliseconds since 1970 and a number within them, ordered as Redis orders them."""

    milliseconds: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> "StreamId":
        """Reads "1764000000000-0"; raises ValueError where it is no stream id."""
        match = _STREAM_ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no event id: it has the form 1764000000000-0")
        return cls(int(match[1]), int(match[2]))

    def before(self) -> "StreamId":
        """The place just before; itself where it is the first."""
        if self.sequence > 0:
            return StreamId(self.milliseconds, self.sequence - 1)
        return StreamId(self.milliseconds - 1, MAX_SEQUENCE) if self.milliseconds > 0 else self

    def after(self) -> "StreamId":
        """The place just after."""
        if self.sequence < MAX_SEQUENCE:
            return StreamId(self.milliseconds, self.sequence + 1)
        return StreamId(self.milliseconds + 1, 0)

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"
