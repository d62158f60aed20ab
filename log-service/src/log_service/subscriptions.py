"""Named places in the events."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hearth_runtime.events import StreamId

from log_service.filters import EventFilter

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a named client wants to see, and the last event that it was sent (empty before the first)."""

    id: str
    name: str
    filter: EventFilter
    last_seen_stream_id: str
    last_seen_timestamp: datetime | None
    created_at: datetime


def time_of(place: StreamId) -> datetime:
    """When Redis took the event at `place`."""
    return EPOCH + timedelta(milliseconds=place.milliseconds)
