"""Sessions: conversations that runs go on with. The table `sessions`.

Its column `session_data` is {"turns": [{"role", "content", "task_id", "created_at"}, …], "dropped": how many older ones
are not kept}. Runs append to it as they end; nothing else changes the turns.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from asyncpg import Record
from hearth_runtime.errors import FieldViolation, InvalidArgument, SessionInUse, SessionNotFound
from hearth_runtime.sessions import Session, SessionTurn
from hearth_runtime.tasks import Turn

from storage_service.database import Database, Transaction
from storage_service.pages import (
    Page,
    moment_of_token,
    number_of_token,
    token_of_moment,
    token_of_number,
)
from storage_service.queries import load_queries

SQL = load_queries("sessions")

# A session keeps its newest turns within these bounds; every turn also stays in the task that made it.
TURNS_LIMIT = 1000
TURNS_BYTES = 4 * 1024 * 1024


class Sessions:
    """The sessions that there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, session_id: str) -> Session:
        """Raises SessionNotFound."""
        return _found(await self._database.fetchrow(SQL["get_session"], session_id), session_id)

    async def list(self, *, page_size: int, token: str, agent_id: str | None) -> Page[Session]:
        """The sessions, of this agent or of all, the newest first."""
        made_at, after_id = moment_of_token(token) or (None, None)
        rows = await self._database.fetch(SQL["list_sessions"], page_size + 1, made_at, after_id, agent_id)
        sessions = [_session(row) for row in rows[:page_size]]
        more = len(rows) > page_size
        return Page(
            items=sessions, next_token=token_of_moment(sessions[-1].created_at, sessions[-1].id) if more else ""
        )

    async def turns(self, session_id: str, *, page_size: int, token: str, after_turn: int) -> Page[SessionTurn]:
        """What is kept of its turns after that one, the oldest first. Raises SessionNotFound."""
        after = number_of_token(token) or after_turn
        rows = await self._database.fetch(SQL["list_turns"], session_id, page_size + 1, after)
        if not rows:
            await self.get(session_id)
        turns = [_session_turn(row) for row in rows[:page_size]]
        return Page(items=turns, next_token=token_of_number(turns[-1].number) if len(rows) > page_size else "")

    async def rename(self, session_id: str, title: str | None) -> Session:
        """Gives it another title, or none. Raises SessionNotFound."""
        return _found(await self._database.fetchrow(SQL["rename_session"], session_id, title), session_id)

    async def fork(self, new_id: str, source_id: str, *, until_turn: int | None, title: str | None) -> Session:
        """A copy up to that turn, or of all. The same again is harmless. Raises SessionNotFound, and InvalidArgument
        where that turn is not kept."""
        row = await self._database.fetchrow(SQL["fork_session"], new_id, source_id, until_turn, title)
        row = row or await self._database.fetchrow(SQL["get_session"], new_id)
        if row is not None:
            return _session(row)
        source = await self.get(source_id)
        kept = f"turns {source.first_turn} to {source.turn_count}" if source.turn_count else "no turns"
        raise InvalidArgument(
            f"until_turn must be one of the turns that the session keeps; it has {kept}.",
            fields=[FieldViolation(field="until_turn", message=f"must be kept by the session, which has {kept}")],
        )

    async def delete(self, session_id: str) -> None:
        """Forgets it. Raises SessionNotFound, and SessionInUse while runs of it have not ended."""
        async with self._database.transaction() as transaction:
            # Whoever accepts a run of it waits for this lock, and so is either counted or begins the session anew.
            if await transaction.fetchrow(SQL["lock_session"], session_id) is None:
                raise session_not_found(session_id)
            row = await transaction.fetchrow(SQL["count_unfinished"], session_id)
            if row is not None and row["count"]:
                raise SessionInUse(
                    f"{row['count']} runs of the session have not ended. Wait for them or cancel them, then delete it.",
                    metadata={"session_id": session_id},
                )
            await transaction.fetchrow(SQL["delete_session"], session_id)

    async def save_summary(self, session_id: str, summary: str, *, from_turns: int, summarized_turns: int) -> bool:
        """Puts the summary in the place of the turns up to `summarized_turns`; not where another one than that of
        `from_turns` is there by now, which False tells. Raises SessionNotFound."""
        saved = await self._database.fetchrow(SQL["save_summary"], session_id, summary, from_turns, summarized_turns)
        if saved is None:
            await self.get(session_id)
        return saved is not None


def turns_of(turns: Sequence[dict[str, Any]] | None) -> tuple[Turn, ...]:
    """The turns of a session; none where there is no session."""
    return tuple(Turn(role=turn["role"], content=turn["content"]) for turn in turns or ())


def newest(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest turns that a session keeps, the oldest first; the very newest always."""
    kept: list[dict[str, Any]] = []
    room = TURNS_BYTES
    for turn in reversed(turns[-TURNS_LIMIT:]):
        room -= len(turn["content"].encode())
        if room < 0 and kept:
            break
        kept.append(turn)
    return kept[::-1]


async def append_turns(transaction: Transaction, session_id: UUID, task_id: UUID, turns: Sequence[Turn]) -> None:
    """Appends the task's turns to the session; other tasks that would do so wait for the transaction."""
    row = await transaction.fetchrow(SQL["lock_session"], session_id)
    if row is None:
        return
    now = datetime.now(UTC).isoformat()
    new = [{"role": t.role, "content": t.content, "task_id": str(task_id), "created_at": now} for t in turns]
    known = row["session_data"]["turns"] + new
    kept = newest(known)
    dropped = row["session_data"].get("dropped", 0) + len(known) - len(kept)
    await transaction.fetchrow(SQL["save_session"], session_id, {"turns": kept, "dropped": dropped})


def session_not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(
        f"There is no session {session_id}. GET /api/v1/sessions lists those that there are; a run begins one.",
        metadata={"session_id": session_id},
    )


def _found(row: Record | None, session_id: str) -> Session:
    if row is None:
        raise session_not_found(session_id)
    return _session(row)


def _session(row: Record) -> Session:
    return Session(
        id=str(row["id"]),
        agent_id=str(row["agent_id"]),
        title=row["title"],
        forked_from=None if row["forked_from"] is None else str(row["forked_from"]),
        turn_count=row["turn_count"],
        first_turn=row["dropped"] + 1,
        summary=row["summary"],
        summarized_turns=row["summarized_turns"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _session_turn(row: Record) -> SessionTurn:
    turn = row["turn"]
    return SessionTurn(
        number=row["number"],
        role=turn["role"],
        content=turn["content"],
        task_id=turn.get("task_id"),
        created_at=datetime.fromisoformat(turn["created_at"]) if "created_at" in turn else None,
    )
