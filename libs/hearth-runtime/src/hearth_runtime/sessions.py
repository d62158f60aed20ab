"""Sessions, as every service knows them: the values of hearth/agent/v1/session.proto."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Session:
    """A conversation, as it is stored, without its turns, which are numbered from 1.

    `turn_count` is the newest turn's number, and `first_turn` that of the oldest that is kept. `summary` stands for the
    turns up to `summarized_turns` in what a run is given.
    """

    id: str
    agent_id: str
    title: str | None
    forked_from: str | None
    turn_count: int
    first_turn: int
    summary: str | None
    summarized_turns: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class SessionTurn:
    """One message of a session; of older ones it is not known which run they came with, and when."""

    number: int
    role: str
    content: str
    task_id: str | None
    created_at: datetime | None
