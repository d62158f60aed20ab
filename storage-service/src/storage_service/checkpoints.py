"""Checkpoints: what a run has reached. The tables `checkpoints` and `checkpoint_writes`.

The semantics are those of LangGraph's own savers: https://reference.langchain.com/python/langgraph/checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Record
from hearth_runtime.checkpoints import Checkpoint, CheckpointWrite, CheckpointWrites, KeptCheckpoint, TypedBytes
from hearth_runtime.errors import CheckpointNotFound, InvalidArgument

from storage_service.arguments import invalid
from storage_service.attempts import Attempts
from storage_service.checkpoint_rows import CHECKPOINT_BYTES, MIB, checkpoint_of, columns_of
from storage_service.database import Database, Transaction
from storage_service.pages import PAGE_BYTES, Page, checkpoint_of_token, token_of_checkpoint
from storage_service.queries import load_queries

SQL = load_queries("checkpoints")

# With a checkpoint they come back in one message, which may have 32 MiB.
WRITES_BYTES = 15 * MIB


@dataclass(frozen=True, kw_only=True)
class CheckpointFilter:
    """Which checkpoints to list: all that is set must fit. `before_id` is exclusive."""

    task_id: str | None
    namespace: str | None
    id: str | None
    before_id: str | None
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints that are kept. Every write raises AttemptOutdated where another attempt has taken over."""

    def __init__(self, database: Database, attempts: Attempts) -> None:
        self._database = database
        self._attempts = attempts

    async def put(
        self, task_id: str, attempt: int, checkpoints: Sequence[Checkpoint], writes: Sequence[CheckpointWrites]
    ) -> None:
        """Inserts the checkpoints, or replaces them, and adds what steps wrote; all of it, or nothing. Of the writes,
        what is there already stays, but for idx below 0.

        Raises AttemptOutdated, and InvalidArgument where a checkpoint, or what was written after it, is too large.
        """
        arguments = task_id, attempt, *columns_of(checkpoints)
        if not writes:
            row = await self._database.fetchrow(SQL["put_checkpoints"], *arguments, keep_plan=True)
            if row is None:
                raise await self._attempts.outdated(task_id, attempt)
            return
        async with self._database.transaction() as transaction:
            if checkpoints and await transaction.fetchrow(SQL["put_checkpoints"], *arguments) is None:
                raise await self._attempts.outdated(task_id, attempt)
            for after in writes:
                await self._put_writes(transaction, task_id, attempt, after)

    async def _put_writes(self, transaction: Transaction, task_id: str, attempt: int, after: CheckpointWrites) -> None:
        unlike: dict[tuple[str, int], CheckpointWrite] = {}
        for write in after.writes:
            key = write.step_id, write.idx
            if write.idx < 0 or key not in unlike:
                unlike[key] = write
        rows = [(w.step_id, w.idx, w.step_path, w.channel, w.value.type, w.value.data) for w in unlike.values()]
        columns = map(list, zip(*rows, strict=True)) if rows else [[]] * 6
        row = await transaction.fetchrow(
            SQL["put_writes"], task_id, attempt, after.namespace, after.checkpoint_id, *columns, WRITES_BYTES
        )
        if row is None:
            raise await self._attempts.outdated(task_id, attempt)
        if row["fits"] is False:
            raise invalid(
                "writes", f"hold more than {WRITES_BYTES // MIB} MiB after one checkpoint: write less per step"
            )

    async def get(self, task_id: str, *, namespace: str, checkpoint_id: str | None) -> KeptCheckpoint:
        """The checkpoint with this id, or the last one. Raises CheckpointNotFound, InvalidArgument."""
        row = await self._database.fetchrow(SQL["get_checkpoint"], task_id, namespace, checkpoint_id)
        if row is None:
            raise CheckpointNotFound(
                f"Task {task_id} has no such checkpoint; it begins at its start.", metadata={"task_id": task_id}
            )
        (kept,) = await self._with_writes([row])
        # Steps that wrote at the same moment did not see each other's writes when these were measured.
        if len(row["data"]) + sum(len(write.value.data) for write in kept.writes) > CHECKPOINT_BYTES + WRITES_BYTES:
            raise InvalidArgument(
                f"The state of task {task_id} has grown too large to be read. "
                'Start it again with POST /api/v1/tasks/{id}/retry and {"from": "start"}, with less input.'
            )
        return kept

    async def list(self, *, page_size: int, token: str, where: CheckpointFilter) -> Page[KeptCheckpoint]:
        """The checkpoints that fit, the newest first, with their writes."""
        rows = await self._database.fetch(
            SQL["list_checkpoints"],
            page_size + 1,
            *(checkpoint_of_token(token) or (None, None, None)),
            where.task_id,
            where.namespace,
            where.id,
            where.before_id,
            where.metadata or None,
            PAGE_BYTES,
        )
        kept = await self._with_writes(rows[:page_size])
        more = bool(rows) and rows[0]["found"] > len(kept)
        last = kept[-1].checkpoint if more else None
        return Page(
            items=kept,
            next_token=token_of_checkpoint(last.id, last.task_id, last.namespace) if last is not None else "",
        )

    async def delete(self, task_id: str, attempt: int) -> None:
        """Deletes all checkpoints of the task, with their writes. Raises AttemptOutdated."""
        if await self._database.fetchrow(SQL["delete_checkpoints"], task_id, attempt) is None:
            raise await self._attempts.outdated(task_id, attempt)

    async def _with_writes(self, rows: Sequence[Record]) -> Sequence[KeptCheckpoint]:
        keys = [(str(row["task_id"]), row["namespace"], row["id"]) for row in rows]
        if not keys:
            return []
        writes: dict[tuple[str, str, str], list[CheckpointWrite]] = {key: [] for key in keys}
        for row in await self._database.fetch(SQL["list_writes"], *map(list, zip(*keys, strict=True))):
            writes[str(row["task_id"]), row["namespace"], row["checkpoint_id"]].append(_write_of(row))
        return [
            KeptCheckpoint(checkpoint=checkpoint_of(row), writes=tuple(writes[key]))
            for row, key in zip(rows, keys, strict=True)
        ]


def _write_of(row: Record) -> CheckpointWrite:
    return CheckpointWrite(
        step_id=row["step_id"],
        step_path=row["step_path"],
        idx=row["idx"],
        channel=row["channel"],
        value=TypedBytes(type=row["type"], data=row["data"]),
    )
