"""Attempts: what a worker does with a task. The tables `tasks`, `task_attempts` and `sessions`.

The number of the attempt is the fence: a worker that was thought dead and comes back changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from asyncpg import Record
from hearth_runtime.agents import Agent
from hearth_runtime.checkpoints import Checkpoint
from hearth_runtime.errors import AttemptOutdated, HearthError, NoTaskWaits
from hearth_runtime.tasks import Attempt, AttemptOutcome, Task, TaskStatus, Turn, task_not_found
from loguru import logger

from storage_service.agents import agent_of_history
from storage_service.checkpoint_rows import columns_of
from storage_service.database import Database, Transaction
from storage_service.pages import Page, number_of_token, token_of_number
from storage_service.queries import load_queries
from storage_service.sessions import append_turns, turns_of
from storage_service.task_rows import task_of
from storage_service.trees import AffectedTask, Change, lock_tree, settle_tree

SQL = load_queries("attempts")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a worker needs to run a task. `session_summary` is of the session's turns before `session_turns`; `queued`
    is the time from when it could run; `answers` are a fork's."""

    task: Task
    agent: Agent
    session_summary: str | None
    session_turns: tuple[Turn, ...]
    traceparent: str
    queued: timedelta
    answers: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a worker wants to claim: the task of the queue whose turn it is, for so long."""

    worker_id: str
    lease: timedelta
    queue: str


@dataclass(frozen=True, kw_only=True)
class Lease:
    """An attempt at a task that counts."""

    id: str
    attempt: int
    cancel_requested: bool


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended the task, and what its worker goes on with."""

    id: str
    attempt: int
    status: TaskStatus
    output: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    new_turns: tuple[Turn, ...]
    checkpoints: tuple[Checkpoint, ...]
    next: Wanted | None


@dataclass(frozen=True, kw_only=True)
class Ended(Change):
    """A task after its end, without its input and output, which its worker has; and what was claimed with that."""

    next: Claim | None = None


class Attempts:
    """The attempts at tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, wanted: Wanted) -> Claim:
        """Starts the next attempt of the task whose turn it is. Raises NoTaskWaits."""
        row = await self._database.fetchrow(SQL["claim_task"], *_claim_columns(wanted), keep_plan=True)
        if row is None:
            raise NoTaskWaits("No task waits for a worker now. The doorbell rings again when one does.")
        return _claim_of(row)

    async def extend_leases(self, attempts: Sequence[tuple[str, int]], lease: timedelta) -> list[Lease]:
        """Keeps the leases of attempts, each the id of a task and a number, for that long from now; outdated ones are
        left out."""
        ids, numbers = [task_id for task_id, _ in attempts], [number for _, number in attempts]
        rows = await self._database.fetch(SQL["extend_leases"], ids, numbers, lease)
        held = {(str(row["id"]), row["attempt"]): row for row in rows}
        for attempt in attempts:
            if attempt not in held:
                # Outdated, or its row was in somebody's hands.
                row = await self._database.fetchrow(SQL["extend_lease"], *attempt, lease, keep_plan=True)
                if row is not None:
                    held[attempt] = row
        return [
            Lease(id=task_id, attempt=number, cancel_requested=row["cancel_requested"])
            for (task_id, number), row in held.items()
        ]

    async def finish(self, ending: Ending) -> Ended:
        """Ends the task, keeps its checkpoints and appends to its session; then claims what is wanted, where it waits.
        The same again is harmless, and claims nothing.

        Raises AttemptOutdated, and InvalidArgument where a checkpoint is too large.
        """
        columns = (
            ending.id,
            ending.attempt,
            ending.status,
            ending.output,
            ending.error_code,
            ending.error_message,
            *columns_of(ending.checkpoints),
        )
        if not ending.new_turns:
            # Most tasks: one statement. Only an attempt itself makes its task part of a tree.
            rows = await self._database.fetch(
                SQL["finish_task"], *_claim_columns(ending.next), *columns, True, keep_plan=True
            )
            if rows:
                claimed = next((row for row in rows if row["agent"] is not None), None)
                (finished,) = (row for row in rows if row["agent"] is None)
                return Ended(task=_ended(finished), affected=(), next=_claim_of(claimed) if claimed else None)
        affected: tuple[AffectedTask, ...] = ()
        async with self._database.transaction() as transaction:
            tree_id = await lock_tree(transaction, ending.id)
            row = await transaction.fetchrow(SQL["finish_task"], *_claim_columns(None), *columns, False)
            if row is not None and row["root_task_id"] is not None and tree_id is not None:
                affected = await settle_tree(transaction, tree_id)
            if row is not None and row["session_id"] is not None and ending.new_turns:
                await append_turns(transaction, row["session_id"], row["id"], ending.new_turns)
        if row is not None:
            return Ended(task=_ended(row), affected=affected, next=await self._claim_next(ending.next))
        known = await self._database.fetchrow(SQL["find_task"], ending.id)
        if known is not None and (known["attempt"], known["status"]) == (ending.attempt, ending.status):
            return Ended(task=_ended(known), affected=())
        raise await self.outdated(ending.id, ending.attempt)

    async def _claim_next(self, wanted: Wanted | None) -> Claim | None:
        if wanted is None:
            return None
        try:
            return await self.claim(wanted)
        except NoTaskWaits:
            return None
        except HearthError as error:  # the task before has ended all the same
            logger.warning("nothing could be claimed with an end", error=error.detail)
            return None

    async def release(
        self,
        task_id: str,
        attempt: int,
        *,
        is_retry: bool,
        delay: timedelta,
        error_code: str | None,
        error_message: str | None,
    ) -> Change:
        """Gives the task back: to be retried after `delay`, which counts, or handed over, which is at once and does
        not. Ends it where a cancel was asked for meanwhile. Raises AttemptOutdated."""
        affected: tuple[AffectedTask, ...] = ()
        async with self._database.transaction() as transaction:
            tree_id = await lock_tree(transaction, task_id)
            row = await transaction.fetchrow(
                SQL["release_task"], task_id, attempt, is_retry, delay, error_code, error_message
            )
            if row is not None and row["root_task_id"] is not None and tree_id is not None:
                affected = await settle_tree(transaction, tree_id)
        if row is None:
            raise await self.outdated(task_id, attempt)
        return Change(task=task_of(row), affected=affected)

    async def record_resume(self, task_id: str, attempt: int, step: str) -> None:
        """Notes the step that the attempt goes on with. Raises AttemptOutdated."""
        if await self._database.fetchrow(SQL["record_resume"], task_id, attempt, step) is None:
            raise await self.outdated(task_id, attempt)

    async def list(self, task_id: str, *, page_size: int, token: str) -> Page[Attempt]:
        """A task's attempts, the first one first. Raises TaskNotFound."""
        after = number_of_token(token) or 0
        rows = await self._database.fetch(SQL["list_attempts"], task_id, page_size + 1, after)
        if not rows and await self._database.fetchrow(SQL["find_task"], task_id) is None:
            raise task_not_found(task_id)
        attempts = [_attempt_of(row) for row in rows[:page_size]]
        return Page(items=attempts, next_token=token_of_number(attempts[-1].attempt) if len(rows) > page_size else "")

    async def check(self, transaction: Transaction, task_id: str, attempt: int) -> None:
        """Raises AttemptOutdated; else the attempt stays the present one until the transaction ends."""
        if await transaction.fetchrow(SQL["lock_attempt"], task_id, attempt) is None:
            raise await self.outdated(task_id, attempt)

    async def outdated(self, task_id: str, attempt: int) -> AttemptOutdated:
        """What to raise where the attempt is not the one that runs the task."""
        row = await self._database.fetchrow(SQL["find_task"], task_id)
        state = "is not there" if row is None else f"is {row['status']} in attempt {row['attempt']}"
        return AttemptOutdated(f"Task {task_id} {state}; attempt {attempt} must stop and write nothing more.")


def _ended(row: Record) -> Task:
    return replace(task_of(row), input={}, output=None, tools=())


def _claim_columns(wanted: Wanted | None) -> tuple[str | None, timedelta | None, str | None]:
    return (None, None, None) if wanted is None else (wanted.worker_id, wanted.lease, wanted.queue)


def _claim_of(row: Record) -> Claim:
    return Claim(
        task=task_of(row),
        agent=agent_of_history(row["agent"]),
        session_summary=row["session_summary"],
        session_turns=turns_of(row["session_turns"]),
        traceparent=row["traceparent"],
        queued=row["queued"],
        answers=row["answers"],
    )


def _attempt_of(row: Record) -> Attempt:
    return Attempt(
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=None if row["outcome"] is None else AttemptOutcome(row["outcome"]),
        error_code=row["error_code"],
        error_message=row["error_message"],
        resumed_from=row["resumed_from"],
    )
