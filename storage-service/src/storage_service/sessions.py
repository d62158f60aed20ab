"""Sessions: the earlier turns of a conversation, in the column `session_data` of the table `sessions`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hearth_runtime.tasks import Turn

from storage_service.database import Transaction
from storage_service.queries import load_queries

SQL = load_queries("sessions")

# A session keeps its newest turns within these bounds; every turn also stays in the task that made it.
TURNS_LIMIT = 1000
TURNS_BYTES = 4 * 1024 * 1024


def turns_of(session_data: dict[str, Any] | None) -> tuple[Turn, ...]:
    """The turns in the column, the oldest first; none where there is no session."""
    if session_data is None:
        return ()
    return tuple(Turn(role=turn["role"], content=turn["content"]) for turn in session_data["turns"])


def newest(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The newest turns that a session keeps, the oldest first; the very newest always."""
    kept: list[Turn] = []
    room = TURNS_BYTES
    for turn in reversed(turns[-TURNS_LIMIT:]):
        room -= len(turn.content.encode())
        if room < 0 and kept:
            break
        kept.append(turn)
    return tuple(reversed(kept))


async def append_turns(transaction: Transaction, session_id: UUID, turns: Sequence[Turn]) -> None:
    """Appends to the session; other tasks that would do so wait for the transaction."""
    row = await transaction.fetchrow(SQL["lock_session"], session_id)
    earlier = turns_of(row["session_data"]) if row is not None else ()
    kept = [{"role": turn.role, "content": turn.content} for turn in newest((*earlier, *turns))]
    await transaction.fetchrow(SQL["save_session"], session_id, {"turns": kept})
