"""Messages of sessions as the public contract's values, and a session as Markdown. It never decides."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hearth.agent.v1 import session_pb2
from hearth_runtime import sessions
from hearth_runtime.codec import from_message

from gateway.schemas.sessions import Session, SessionTurn


def session_of(message: session_pb2.Session) -> Session:
    """The session in `message`."""
    return Session(**session_fields(message))


def session_fields(message: session_pb2.Session) -> dict[str, Any]:
    """What a session is shown with, with its turns or without."""
    return dataclasses.asdict(from_message(message, sessions.Session))


def turn_of(message: session_pb2.SessionTurn) -> SessionTurn:
    """The turn in `message`."""
    return SessionTurn(**dataclasses.asdict(from_message(message, sessions.SessionTurn)))


def as_markdown(session: session_pb2.Session, turns: Sequence[session_pb2.SessionTurn]) -> str:
    """The session for people to read. A turn's own headings stay what they are."""
    lines = [f"# {session.title or 'Session ' + session.id}", ""]
    lines += [f"- id: {session.id}", f"- agent: {session.agent_id}", f"- begun: {session.created_at.ToJsonString()}"]
    if session.first_turn > 1:
        lines.append(f"- the first {session.first_turn - 1} turns are not kept any more")
    for turn in turns:
        lines += ["", f"## {turn.number}. {turn.role}", "", turn.content]
    return "\n".join(lines) + "\n"
