"""Tasks: accepting, reading and cancelling them. The table `tasks`.

Each change is one statement whose condition is the rule, so that of any number of callers one succeeds; only where
nothing was changed does a second one find out why. Times are compared by PostgreSQL's clock alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record
from hearth_runtime.agents import ClientTool
from hearth_runtime.errors import (
    FieldViolation,
    HearthError,
    HistoryExpired,
    IdempotencyConflict,
    InvalidArgument,
    SessionNotFound,
    TaskFinished,
    TaskNotRetryable,
    ToolCallUnfinished,
    Unavailable,
    Undone,
)
from hearth_runtime.principals import current_principal
from hearth_runtime.server import known
from hearth_runtime.tasks import Task, TaskStatus, task_not_found

from storage_service.agents import agent_inactive, agent_not_found
from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, id_of_token, token_of_id
from storage_service.pending import with_pending
from storage_service.queries import load_queries
from storage_service.queue_bounds import QueueBounds
from storage_service.quotas import Quotas, is_limited
from storage_service.task_rows import DEFAULT_MAX_RETRIES, task_of
from storage_service.trees import Change, lock_tree, settle_tree

SQL = load_queries("tasks")


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What a task is made of. `request_hash` is of what an idempotency key must come with again."""

    id: str
    agent_id: str
    input: dict[str, Any]
    session_id: str | None
    idempotency_key: str | None
    request_hash: str
    traceparent: str
    user: str | None
    tools: tuple[ClientTool, ...]


# What came of a new task: as `Tasks.create` gives it, or raises it.
type Created = tuple[Task, bool] | HearthError


@dataclass(frozen=True, kw_only=True)
class TaskState:
    """How far a task is; `end_settled` tells that it has ended and the event stream has its last event."""

    id: str
    status: TaskStatus
    end_settled: bool


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """Which tasks to list: all that is set must fit; no statuses are all of them."""

    agent_id: str | None
    statuses: tuple[TaskStatus, ...]
    created_after: datetime | None
    created_before: datetime | None
    parent_task_id: str | None


class Tasks:
    """The tasks that there are."""

    def __init__(self, database: Database, bounds: QueueBounds) -> None:
        self._database = database
        self._bounds = bounds
        self.quotas = Quotas()

    async def create(self, new: NewTask) -> tuple[Task, bool]:
        """Accepts a task; the bool is False where its idempotency key was known.

        Raises AgentNotFound, AgentInactive, IdempotencyConflict, QueueFull, QuotaExceeded, SessionNotFound, and
        InvalidArgument for another agent's session.
        """
        (created,) = await self.create_all([new])
        if isinstance(created, HearthError):
            raise created
        return created

    async def create_all(self, news: Sequence[NewTask]) -> list[Created]:
        """As `create` for each of them, in one statement."""
        try:
            return await self._create(news)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be stored, and is not to keep the others from it
            return [created for new in news for created in await self._alone(new)]

    async def _alone(self, new: NewTask) -> list[Created]:
        try:
            return await self._create([new])
        except Exception as error:  # noqa: BLE001 - it is told whoever asked for this one
            return [known(error, "create_tasks")]

    async def _create(self, news: Sequence[NewTask]) -> list[Created]:
        full: dict[str, HearthError] = {}
        for new in news:
            if (obstacle := await self._bounds.obstacle(new.agent_id)) is not None:
                full[new.id] = obstacle
            else:
                self._bounds.added(new.agent_id)
        counted = [new for new in news if new.id not in full]
        rows: dict[str, Record] = {}
        try:
            rows = {str(row["id"]): row for row in await self._inserted(counted, full)}
        finally:
            for new in counted:
                if new.id.lower() not in rows:
                    self._bounds.removed(new.agent_id)
        return [
            (task_of(rows[new.id.lower()]), True) if new.id.lower() in rows else await self._refused(new, full)
            for new in news
        ]

    async def _inserted(self, news: Sequence[NewTask], full: dict[str, HearthError]) -> list[Record]:
        """The rows of those that were accepted. Adds to `full` what an owner's quotas allow no more."""
        if not is_limited():
            return await self._database.fetch(SQL["create_tasks"], *_columns(news), keep_plan=True) if news else []
        rows = []
        for new in news:
            try:
                async with self._database.transaction() as transaction:
                    if (obstacle := await self.quotas.obstacle(transaction)) is not None:
                        full[new.id] = obstacle
                    else:
                        accepted = await transaction.fetch(SQL["create_tasks"], *_columns([new]))
                if new.id not in full:
                    rows += accepted
            except Undone:
                raise
            except HearthError as error:  # those before it are accepted
                full[new.id] = error
        return rows

    async def _refused(self, new: NewTask, full: Mapping[str, HearthError]) -> Created:
        """What to answer for one that was not accepted; others of its call may have been."""
        try:
            (asked,) = await self._database.fetch(SQL["find_owner"], new.agent_id, new.input)
            accepted = await self.accepted(new.id, new.idempotency_key, new.request_hash, owner=asked["owner"])
            return accepted or full.get(new.id) or await self._obstacle(new)
        except Undone:
            raise
        except HearthError as error:
            return error

    async def accepted(
        self, task_id: str, idempotency_key: str | None, request_hash: str, *, owner: str | None
    ) -> tuple[Task, bool] | None:
        """The task that a request with this id, or with this key for a task of `owner`, made before; the bool says that
        it was this very request. Raises IdempotencyConflict."""
        accepted = await self._database.fetchrow(SQL["find_accepted"], task_id, idempotency_key, owner)
        if accepted is None:
            return None
        if accepted["request_hash"] != request_hash:
            raise IdempotencyConflict(
                "This idempotency key came with another request before. Use a new key for a new request.",
                metadata={"task_id": str(accepted["id"])},
            )
        task = task_of(accepted)
        # Its own id: the caller repeats a call whose answer it missed.
        return task, task.id == task_id.lower()

    async def get(self, task_id: str) -> Task:
        """Raises TaskNotFound."""
        row = await self._database.fetchrow(SQL["get_task"], task_id)
        if row is None:
            raise task_not_found(task_id)
        (task,) = await with_pending(self._database, [task_of(row)])
        return task

    async def states(self, task_ids: Iterable[str]) -> list[TaskState]:
        """How far those of the tasks are that are there."""
        rows = await self._database.fetch(SQL["get_task_states"], list(task_ids))
        return [
            TaskState(id=str(row["id"]), status=TaskStatus(row["status"]), end_settled=row["end_settled"])
            for row in rows
        ]

    async def list(self, *, page_size: int, token: str, where: TaskFilter) -> Page[Task]:
        """The tasks that fit, the newest first. created_after is inclusive, created_before is not."""
        one, several = (None, list(where.statuses)) if len(where.statuses) != 1 else (where.statuses[0], [])
        rows = await self._database.fetch(
            SQL["list_tasks"],
            page_size + 1,
            id_of_token(token),
            where.agent_id,
            one,
            several or None,
            where.created_after,
            where.created_before,
            PAGE_BYTES,
            where.parent_task_id,
        )
        tasks = await with_pending(self._database, [task_of(row) for row in rows[:page_size]])
        more = bool(rows) and rows[0]["found"] > len(tasks)
        return Page(items=tasks, next_token=token_of_id(tasks[-1].id) if more else "")

    async def cancel(self, task_id: str) -> Change:
        """Cancels a task that is queued or waits, asks a running one to stop, and so down its tree.

        Raises TaskNotFound, TaskFinished.
        """
        async with self._database.transaction() as transaction:
            tree_id = await lock_tree(transaction, task_id)
            if tree_id is not None and (row := await transaction.fetchrow(SQL["cancel_task"], task_id)) is not None:
                return Change(task=task_of(row), affected=await settle_tree(transaction, tree_id))
        task = await self.get(task_id)
        raise TaskFinished(
            f"Task {task_id} is {task.status} already; there is nothing left to cancel.",
            metadata={"task_id": task_id, "status": task.status},
        )

    async def retry(self, task_id: str, *, from_start: bool, repeat_tool_calls: bool) -> Task:
        """Puts a task that failed or was cancelled back into the queue, with all its retries.

        Raises TaskNotFound, TaskNotRetryable, AgentInactive, QueueFull, QuotaExceeded, ToolCallUnfinished,
        HistoryExpired.
        """
        async with self._database.transaction() as transaction:
            await lock_tree(transaction, task_id)
            row = await transaction.fetchrow(SQL["lock_ended_task"], task_id)
            if row is None:
                raise task_not_found(task_id)
            if row["status"] not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
                raise TaskNotRetryable(
                    f"Task {task_id} is {row['status']}; only one that failed or was cancelled can be started again.",
                    metadata={"task_id": task_id, "status": row["status"]},
                )
            if not row["agent_is_active"]:
                raise agent_inactive(str(row["agent_id"]))
            if full := await self._bounds.obstacle(str(row["agent_id"])) or await self.quotas.obstacle(transaction):
                raise full
            if not from_start and row["attempt"] > 0 and not row["has_history"]:
                raise HistoryExpired(
                    f'What task {task_id} had reached is kept no longer. Send {{"from": "start"}} to begin anew; '
                    "tool calls that it made are made again then.",
                    metadata={"task_id": task_id},
                )
            if from_start:
                await transaction.fetchrow(SQL["forget_progress"], task_id)
            elif repeat_tool_calls:
                await transaction.fetchrow(SQL["forget_unfinished_calls"], task_id)
            elif (call := await transaction.fetchrow(SQL["find_unfinished_call"], task_id)) is not None:
                raise ToolCallUnfinished(
                    f"A call of the tool {call['tool_name']} was cut off, and may have been made. Find out; then send "
                    '{"repeat_tool_calls": true} if repeating it does no harm, or {"from": "start"}.'
                )
            await transaction.fetchrow(SQL["forget_unfinished_requests"], task_id)
            await transaction.fetchrow(SQL["renew_history"], task_id)
            retried = await transaction.fetchrow(SQL["retry_task"], task_id)
        assert retried is not None
        self._bounds.added(str(retried["agent_id"]))
        return task_of(retried)

    async def _obstacle(self, new: NewTask) -> HearthError:
        (row,) = await self._database.fetch(SQL["find_obstacle"], new.agent_id, new.session_id)
        if row["is_active"] is None:
            return agent_not_found(new.agent_id)
        if not row["is_active"]:
            return agent_inactive(new.agent_id)
        if row["session_agent_id"] is not None and str(row["session_agent_id"]) != new.agent_id.lower():
            return InvalidArgument(
                "The session belongs to another agent. Begin a new session with a new session_id.",
                fields=[FieldViolation(field="session_id", message="belongs to another agent")],
            )
        if new.session_id is not None and row["session_agent_id"] is None and current_principal() is not None:
            return SessionNotFound(
                f"The session {new.session_id} is not yours. Begin a new session with a new session_id.",
                metadata={"session_id": new.session_id},
            )
        return Unavailable("The agent or the session was changed at this moment. Try again.")


def _columns(news: Sequence[NewTask]) -> tuple[Any, ...]:
    return (
        DEFAULT_MAX_RETRIES,
        [new.id for new in news],
        [new.agent_id for new in news],
        [new.session_id for new in news],
        [new.input for new in news],
        [new.idempotency_key for new in news],
        [new.request_hash for new in news],
        [new.traceparent for new in news],
        [new.user for new in news],
        # asyncpg takes a list in an array for another dimension of it.
        [{"tools": [tool.to_json() for tool in new.tools]} for new in news],
    )
