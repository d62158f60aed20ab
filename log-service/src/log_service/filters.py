"""What an event must match, decided here for events in memory exactly as storage-service's SQL does for rows."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from hearth_runtime.events import Event, EventKind, EventLevel
from hearth_runtime.principals import may_see


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Each field that is set must match; of a field with several values, any one. Empty means: not set.

    `contains` is a part of the message in any case, `since` is inclusive, `until` exclusive, `context` compares the
    text of top-level fields.
    """

    task_ids: tuple[str, ...] = ()
    agent_ids: tuple[str, ...] = ()
    levels: tuple[EventLevel, ...] = ()
    kinds: tuple[EventKind, ...] = ()
    contains: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    context: dict[str, str] = field(default_factory=dict)

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted, and is for whom the present call is made to see."""
        return (
            may_see(event.owner)
            and (not self.task_ids or event.task_id in self.task_ids)
            and (not self.agent_ids or event.agent_id in self.agent_ids)
            and (not self.levels or event.level in self.levels)
            and (not self.kinds or event.kind in self.kinds)
            and (self.since is None or event.timestamp >= self.since)
            and (self.until is None or event.timestamp < self.until)
            and (not self.contains or self.contains.lower() in event.message.lower())
            and all(text_of(event.context.get(key)) == text for key, text in self.context.items())
        )


def text_of(value: Any) -> str | None:
    """A JSON value as PostgreSQL's `jsonb ->> key` gives it; None where that is NULL.

    Source: https://www.postgresql.org/docs/current/functions-json.html and jsonb's output of numbers and objects.
    """
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return _jsonb(value)
    return _number(value)


def _jsonb(value: Any) -> str:
    match value:
        case dict():
            # jsonb keeps the keys of an object by length, then by bytes.
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{_quoted(key)}: {_jsonb(value[key])}" for key in keys) + "}"
        case list():
            return "[" + ", ".join(map(_jsonb, value)) + "]"
        case None:
            return "null"
        case str():
            return _quoted(value)
        case bool():
            return "true" if value else "false"
    return _number(value)


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def _number(value: float) -> str:
    """Without an exponent, as jsonb writes it: it keeps numbers as `numeric`, which has no negative zero."""
    return str(value) if isinstance(value, int) else format(Decimal(repr(value + 0.0)), "f")
