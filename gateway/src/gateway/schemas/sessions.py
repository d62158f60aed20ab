"""Sessions: conversations that runs go on with."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from gateway.schemas.fields import STORABLE, WHOLE, Answer, Body

Title = Annotated[str, Field(min_length=1, max_length=200), STORABLE]


class Session(Answer):
    """A conversation of one agent."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    agent_id: str = Field(json_schema_extra={"format": "uuid"})
    title: str | None
    forked_from: str | None = Field(description="The session that it was copied from, while that is there")
    turn_count: int = Field(description="How many turns there ever were: the number of the newest")
    first_turn: int = Field(description="The number of the oldest turn that is kept")
    summary: str | None = Field(description="What runs are given in the place of the turns up to `summarized_turns`")
    summarized_turns: int = Field(description="How many turns the summary covers; they are kept all the same")
    created_at: datetime
    updated_at: datetime = Field(description="When a run last began or ended in it")


class SessionPage(Answer):
    """A page of sessions, the newest first."""

    items: list[Session]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class SessionTurn(Answer):
    """One message of a session."""

    number: int = Field(description="From 1, without gaps")
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    task_id: str | None = Field(description="The run that it came with; null where that is not known")
    created_at: datetime | None = Field(description="When that run ended; null where that is not known")


class SessionWithTurns(Session):
    """A session and a page of its turns, the oldest first."""

    turns: list[SessionTurn]
    next_cursor: str | None = Field(description="What `cursor` gives the next turns; null with the last")


class SessionExport(Session):
    """A session and all of its turns that are kept, the oldest first."""

    turns: list[SessionTurn]


class SessionChange(Body):
    """What a client may change of a session."""

    title: Title | None = Field(description="What people call it; null for nothing", examples=["Holiday in Lisbon"])


class ForkRequest(Body):
    """How to copy a session; nothing need be sent."""

    until_turn: Annotated[int, Field(ge=1, lt=2**31), WHOLE] | None = Field(
        None, description="The number of the last turn that is copied; all are if left out", examples=[4]
    )
    title: Title | None = Field(
        None, description="The copy's title; that of the session if left out", examples=["Holiday in Porto"]
    )
