"""Events of runs: as pages, as streams, and what to subscribe to."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.schemas.fields import (
    CONTEXT_NAME,
    CONTEXT_VALUE,
    MAX_CONTEXT_FIELDS,
    MAX_VALUES,
    Answer,
    Body,
    Contains,
    EventId,
    Id,
    Kind,
    Level,
    SubscriptionName,
)


class Log(Answer):
    """An event that is kept: all kinds but `delta` are."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    task_id: str = Field(json_schema_extra={"format": "uuid"})
    agent_id: str = Field(json_schema_extra={"format": "uuid"})
    level: Level
    kind: Kind
    attempt: int = Field(description="Of which attempt of the task")
    message: str
    context: dict[str, Any]
    timestamp: datetime
    trace_id: str | None = Field(description="32 hexadecimal digits; null where the run is not traced")
    stream_id: str = Field(description="Its place in the order of all events, as streams take it", pattern=r"^\d+-\d+$")


class LogPage(Answer):
    """A page of events in their order: the last one if `next_cursor` is null, however few it has."""

    items: list[Log]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


def _context(context: dict[str, str]) -> dict[str, str]:
    for name, value in context.items():
        if not CONTEXT_NAME.fullmatch(name) or not CONTEXT_VALUE.fullmatch(value):
            raise ValueError("has a name of more than 100 or a value of more than 1000 characters, or a NUL character")
        (name + value).encode()
    return context


class Filters(Body):
    """What an event must match: each filter that is there, and any value of one that has several."""

    task_ids: list[Id] = Field(default_factory=list, max_length=MAX_VALUES)
    agent_ids: list[Id] = Field(default_factory=list, max_length=MAX_VALUES)
    levels: list[Level] = Field(default_factory=list)
    kinds: list[Kind] = Field(default_factory=list)
    contains: Contains | None = None
    context: Annotated[dict[str, str], AfterValidator(_context)] = Field(
        default_factory=dict, max_length=MAX_CONTEXT_FIELDS
    )


class SubscribeFrame(Body):
    """What a client of /ws/logs sends: first, and whenever it wants to see something else."""

    subscribe: Filters | None = None
    name: SubscriptionName | None = None
    after: EventId | None = None
