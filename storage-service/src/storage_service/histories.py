"""What is kept of how tasks were run, and the tasks that are made from it.

The tables `task_histories`, `checkpoints`, `checkpoint_writes` and `tool_calls`.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from asyncpg import Record
from hearth_runtime.checkpoints import NOTE, RecordedCall, SavedCheckpoint, TypedBytes
from hearth_runtime.errors import CheckpointNotFound, HearthError, HistoryExpired, TaskNotReplayable, Unavailable
from hearth_runtime.lifecycle import pause
from hearth_runtime.tasks import Task, TaskStatus, task_not_found
from loguru import logger
from opentelemetry.instrumentation.utils import suppress_instrumentation

from storage_service.agents import agent_inactive
from storage_service.checkpoint_rows import checkpoint_of
from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, text_of_token, token_of_text
from storage_service.queries import load_queries
from storage_service.queue_bounds import QueueBounds
from storage_service.task_rows import DEFAULT_MAX_RETRIES, task_of
from storage_service.tasks import Tasks

SQL = load_queries("histories")

# Of so many tasks the history is deleted in one statement, which is done well within the time of a call.
BATCH = 200


@dataclass(frozen=True, kw_only=True)
class Fork:
    """A task to be made from `checkpoint_id` of the task `task_id`, from its beginning where that is None.

    What is not None of `checkpoint` and `input` takes the place of the original's.
    """

    id: str
    task_id: str
    checkpoint_id: str | None
    checkpoint: TypedBytes | None
    input: dict[str, Any] | None
    answers: dict[str, Any]
    idempotency_key: str | None
    request_hash: str
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A task to be made that does again what the task `task_id` did."""

    id: str
    task_id: str
    idempotency_key: str | None
    request_hash: str
    traceparent: str


class Histories:
    """The histories that are kept."""

    def __init__(self, database: Database, tasks: Tasks, bounds: QueueBounds) -> None:
        self._database = database
        self._tasks = tasks
        self._bounds = bounds

    async def checkpoints(self, task_id: str, *, page_size: int, token: str) -> Page[SavedCheckpoint]:
        """The checkpoints of the task's own graph, the first one first. Raises TaskNotFound, HistoryExpired."""
        await self._kept(task_id)
        rows = await self._database.fetch(
            SQL["list_saved_checkpoints"], page_size + 1, task_id, text_of_token(token), PAGE_BYTES
        )
        saved = [
            SavedCheckpoint(checkpoint=checkpoint_of(row), attempt=row["attempt"], created_at=row["created_at"])
            for row in rows[:page_size]
        ]
        more = bool(rows) and rows[0]["found"] > len(saved)
        return Page(items=saved, next_token=token_of_text(saved[-1].checkpoint.id) if more else "")

    async def calls(self, task_id: str, *, page_size: int, token: str) -> Page[RecordedCall]:
        """The tool calls that have a result, by call_id. Raises TaskNotFound, HistoryExpired."""
        await self._kept(task_id)
        rows = await self._database.fetch(
            SQL["list_recorded_calls"], page_size + 1, task_id, text_of_token(token), PAGE_BYTES
        )
        calls = [
            RecordedCall(
                call_id=row["call_id"],
                tool_name=row["tool_name"],
                arguments=row["arguments"],
                result=orjson.dumps(row["result"]).decode(),
                attempt=row["attempt"],
            )
            for row in rows[:page_size]
        ]
        more = bool(rows) and rows[0]["found"] > len(calls)
        return Page(items=calls, next_token=token_of_text(calls[-1].call_id) if more else "")

    async def fork(self, fork: Fork) -> tuple[Task, bool]:
        """The task that begins as a copy; the bool is False where its idempotency key was known.

        Raises TaskNotFound, TaskNotReplayable, HistoryExpired, CheckpointNotFound, AgentInactive, IdempotencyConflict,
        QueueFull.
        """
        origin = await self._kept(fork.task_id)
        return await self._derive(
            fork,
            origin,
            is_replay=False,
            task_input=fork.input,
            answers=fork.answers,
            checkpoint_id=fork.checkpoint_id,
            checkpoint=fork.checkpoint,
        )

    async def replay(self, replay: Replay) -> tuple[Task, bool]:
        """The task that does the same again; the bool is False where its idempotency key was known.

        Raises TaskNotFound, HistoryExpired, TaskNotReplayable, IdempotencyConflict, QueueFull.
        """
        origin = await self._kept(replay.task_id)
        if origin["status"] not in (TaskStatus.COMPLETED, TaskStatus.FAILED):
            raise TaskNotReplayable(
                f"Task {replay.task_id} is {origin['status']}; only one that has completed or failed can be replayed.",
                metadata={"task_id": replay.task_id, "status": origin["status"]},
            )
        return await self._derive(
            replay,
            origin,
            is_replay=True,
            task_input=None,
            answers={},
            checkpoint_id=origin["first_checkpoint_id"],
            checkpoint=None,
        )

    async def forget(self, older: timedelta) -> int:
        """Deletes what is kept of tasks that ended so long ago; of how many that was, BATCH at most."""
        (row,) = await self._database.fetch(SQL["forget_histories"], older, BATCH)
        return int(row["count"])

    async def _kept(self, task_id: str) -> Record:
        row = await self._database.fetchrow(SQL["get_history"], task_id)
        if row is None:
            raise task_not_found(task_id)
        # Before its first attempt there is nothing that could have been kept.
        if not row["is_kept"] and row["attempt"] > 0:
            raise _expired(task_id)
        return row

    async def _derive(
        self,
        new: Fork | Replay,
        origin: Record,
        *,
        is_replay: bool,
        task_input: dict[str, Any] | None,
        answers: dict[str, Any],
        checkpoint_id: str | None,
        checkpoint: TypedBytes | None,
    ) -> tuple[Task, bool]:
        agent_id = str(origin["agent_id"])
        if origin["attempt"] == 0:
            raise TaskNotReplayable(
                f"Task {new.task_id} has not begun. Wait until it has, or start another task of its agent.",
                metadata={"task_id": new.task_id, "status": origin["status"]},
            )
        if origin["replay_of_task_id"] is not None:
            raise TaskNotReplayable(
                f"Task {new.task_id} is a replay itself. Take the task that it replays, {origin['replay_of_task_id']}.",
                metadata={"task_id": new.task_id},
            )
        full: HearthError | None = await self._bounds.obstacle(agent_id)
        row = None
        if full is None:
            async with self._database.transaction() as transaction:
                full = await self._tasks.quotas.obstacle(transaction)
                row = (
                    await transaction.fetchrow(
                        SQL["derive_task"],
                        new.id,
                        new.task_id,
                        is_replay,
                        task_input,
                        new.idempotency_key,
                        new.request_hash,
                        new.traceparent,
                        DEFAULT_MAX_RETRIES,
                    )
                    if full is None
                    else None
                )
                if row is not None:
                    kept = await transaction.fetchrow(
                        SQL["derive_history"], new.id, new.task_id, answers, checkpoint_id, is_replay
                    )
                    if kept is None:
                        raise _expired(new.task_id)
                    if checkpoint_id is not None:
                        copied = await transaction.fetchrow(
                            SQL["copy_checkpoints"],
                            new.id,
                            new.task_id,
                            checkpoint_id,
                            None if checkpoint is None else checkpoint.type,
                            None if checkpoint is None else checkpoint.data,
                        )
                        if copied is None or not copied["is_there"]:
                            raise CheckpointNotFound(
                                f"Task {new.task_id} has no checkpoint {checkpoint_id}. "
                                f"GET /api/v1/tasks/{new.task_id}/checkpoints lists those that it has.",
                                metadata={"task_id": new.task_id},
                            )
                    if checkpoint_id is not None and not is_replay:
                        await transaction.fetchrow(SQL["copy_tool_calls"], new.id, new.task_id, checkpoint_id, NOTE)
        if row is not None:
            self._bounds.added(agent_id)
            return task_of(row), True
        known = await self._tasks.accepted(new.id, new.idempotency_key, new.request_hash, owner=origin["owner"])
        if known is None:
            raise full or (
                Unavailable("The task was changed at this moment. Try again.")
                if origin["agent_is_active"] or is_replay
                else agent_inactive(agent_id)
            )
        return known


async def keep_bounded(
    histories: Histories, *, retention: timedelta, every_seconds: float, stopping: asyncio.Event
) -> None:
    """Deletes what is kept longer than `retention` until told to stop, a batch at a time."""
    while not stopping.is_set():
        forgotten = 0
        try:
            # Nobody's request caused these statements, so they belong into no trace.
            with suppress_instrumentation():
                forgotten = await histories.forget(retention)
        except Unavailable as error:
            logger.debug("old checkpoints are deleted later", reason=error.detail)
        if forgotten:
            logger.info("deleted the checkpoints of old tasks", tasks=forgotten)
        await pause(stopping, 0 if forgotten == BATCH else every_seconds)


def _expired(task_id: str) -> HistoryExpired:
    return HistoryExpired(
        f"How task {task_id} was run is kept no longer. HEARTH_CHECKPOINT_RETENTION_DAYS of storage-service says how "
        "long it is.",
        metadata={"task_id": task_id},
    )
