"""Named subscriptions: the table `log_subscriptions`."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record
from hearth_runtime.errors import SubscriptionNotFound
from hearth_runtime.events import EventKind, EventLevel, StreamId
from hearth_runtime.identifiers import new_id

from storage_service.database import Database
from storage_service.events import EventFilter
from storage_service.queries import load_queries

SQL = load_queries("subscriptions")


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """A named place in the events, with what its client wants to see. No event was seen: the stream id is empty."""

    id: str
    name: str
    filter: EventFilter
    last_seen_stream_id: str
    last_seen_timestamp: datetime | None
    created_at: datetime


class Subscriptions:
    """The named subscriptions that there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Subscription:
        """Raises SubscriptionNotFound."""
        row = await self._database.fetchrow(SQL["get_subscription"], name)
        if row is None:
            raise SubscriptionNotFound(
                f"There is no subscription {name!r}. Subscribe once with this name to make it.",
                metadata={"name": name},
            )
        return _subscription(row)

    async def save(
        self, name: str, *, where: EventFilter | None, last_seen: StreamId | None, last_seen_timestamp: datetime | None
    ) -> Subscription:
        """Makes or changes a subscription; None keeps what there is. The place only moves forward."""
        (row,) = await self._database.fetch(
            SQL["save_subscription"],
            new_id(),
            name,
            None if where is None else _filter_to_json(where),
            None if last_seen is None else str(last_seen),
            None if last_seen is None else last_seen_timestamp,
        )
        return _subscription(row)


def _filter_to_json(where: EventFilter) -> dict[str, Any]:
    """What is set, for the column `filters`; times as RFC 3339."""
    return {name: value for name, value in asdict(where).items() if value is not None and value not in ((), {})}


def _filter_from_json(filters: dict[str, Any]) -> EventFilter:
    since, until = filters.get("since"), filters.get("until")
    return EventFilter(
        task_ids=tuple(filters.get("task_ids", ())),
        agent_ids=tuple(filters.get("agent_ids", ())),
        levels=tuple(EventLevel(level) for level in filters.get("levels", ())),
        kinds=tuple(EventKind(kind) for kind in filters.get("kinds", ())),
        contains=filters.get("contains"),
        since=None if since is None else datetime.fromisoformat(since),
        until=None if until is None else datetime.fromisoformat(until),
        context=filters.get("context", {}),
    )


def _subscription(row: Record) -> Subscription:
    return Subscription(
        id=str(row["id"]),
        name=row["name"],
        filter=_filter_from_json(row["filters"]),
        last_seen_stream_id=row["last_seen_stream_id"] or "",
        last_seen_timestamp=row["last_seen_timestamp"],
        created_at=row["created_at"],
    )
