"""Events: the table `task_logs`, in the order of their stream ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record
from hearth_runtime.events import Event, EventKind, EventLevel, StreamId

from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, place_of_token, token_of_place
from storage_service.queries import containing, load_queries

SQL = load_queries("events")


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """What an event must match: each field that is set, and any value of one that has several.

    `since` is inclusive, `until` is not; `contains` is sought in the message, in any case; `context` names top-level
    fields by their text.
    """

    task_ids: tuple[str, ...]
    agent_ids: tuple[str, ...]
    levels: tuple[EventLevel, ...]
    kinds: tuple[EventKind, ...]
    contains: str | None
    since: datetime | None
    until: datetime | None
    context: dict[str, str]


class Events:
    """The events that are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, events: Sequence[Event]) -> int:
        """Stores the events, passing over those whose stream id is known; returns how many were new."""
        placed = [(StreamId.parse(event.stream_id), event) for event in events]
        # In one order, so that two callers with the same events never wait for each other in a circle.
        placed.sort(key=lambda pair: pair[0])
        rows = [
            (
                event.id,
                event.task_id,
                event.agent_id,
                event.attempt,
                event.kind,
                event.level,
                event.message,
                event.context,
                event.timestamp,
                event.traceparent,
                event.stream_id,
                place.milliseconds,
                place.sequence,
                event.owner,
            )
            for place, event in placed
        ]
        columns = map(list, zip(*rows, strict=True))
        (row,) = await self._database.fetch(SQL["append_events"], *columns, keep_plan=True)
        return int(row["stored_count"])

    async def list(
        self,
        *,
        page_size: int,
        token: str,
        where: EventFilter,
        descending: bool,
        after: StreamId | None,
        before: StreamId | None,
        scan_limit: int | None = None,
    ) -> Page[Event]:
        """The events that match between two places, both exclusive, in their order or against it.

        Kinds, texts and context have no index: of what the rest of the filter leaves, `scan_limit` events are compared
        at most. Then the page holds what matches among those, which may be nothing, and the next one goes on there.
        """
        place = place_of_token(token)
        if place is not None and descending:
            before = place if before is None else min(before, place)
        elif place is not None:
            after = place if after is None else max(after, place)
        rows = await self._database.fetch(
            SQL["list_events_descending" if descending else "list_events_ascending"],
            page_size + 1,
            *_place(after),
            *_place(before),
            *_one_or_several(where.task_ids),
            *_one_or_several(where.agent_ids),
            *_one_or_several(where.levels),
            list(where.kinds) or None,
            None if where.contains is None else containing(where.contains),
            where.since,
            where.until,
            list(where.context.keys()) or None,
            list(where.context.values()) or None,
            PAGE_BYTES,
            scan_limit,
        )
        events = [_event(row) for row in rows if row["matches"]][:page_size]
        if rows and rows[-1]["number"] == scan_limit and len(rows) <= page_size:
            next_token = token_of_place(StreamId.parse(rows[-1]["stream_id"]))
        elif rows and rows[0]["found"] > len(events):
            next_token = token_of_place(StreamId.parse(events[-1].stream_id))
        else:
            next_token = ""
        return Page(items=events, next_token=next_token)


def _place(place: StreamId | None) -> tuple[int | None, int | None]:
    return (None, None) if place is None else (place.milliseconds, place.sequence)


def _one_or_several(values: tuple[Any, ...]) -> tuple[Any, list[Any] | None]:
    return (values[0], None) if len(values) == 1 else (None, list(values) or None)


def _event(row: Record) -> Event:
    return Event(
        stream_id=row["stream_id"],
        id=str(row["id"]),
        task_id=str(row["task_id"]),
        agent_id=str(row["agent_id"]),
        attempt=row["attempt"],
        kind=EventKind(row["kind"]),
        level=EventLevel(row["level"]),
        message=row["message"],
        context=row["context"],
        timestamp=row["timestamp"],
        traceparent=row["traceparent"],
        owner=row["owner"],
    )
