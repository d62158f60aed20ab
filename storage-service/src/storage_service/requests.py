"""Requests: what tasks ask of people, of clients and of other agents, and what was answered. The table `task_requests`.

A request is known by its task and its call's id, which is the same in every attempt. The first answer counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asyncpg import Record
from hearth_runtime.errors import (
    AlreadyAnswered,
    FieldViolation,
    InvalidArgument,
    SubTaskRefused,
    TaskNotWaiting,
    Unavailable,
)
from hearth_runtime.tasks import Pending, PendingKind, Task, TaskStatus, task_not_found

from storage_service.agents import agent_inactive, agent_not_found
from storage_service.answers import check_answer
from storage_service.attempts import Attempts
from storage_service.database import Database, Transaction
from storage_service.pending import with_pending
from storage_service.queries import load_queries
from storage_service.task_rows import DEFAULT_MAX_RETRIES, task_of
from storage_service.trees import AffectedTask, Change, lock_tree, settle_tree

SQL = load_queries("requests")


@dataclass(frozen=True, kw_only=True)
class NewSubTask:
    """A sub-task of a task that `attempt` runs; `id` is its own where it is not there yet."""

    parent_task_id: str
    attempt: int
    call_id: str
    id: str
    agent_id: str
    input: dict[str, Any]
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class SubTask:
    """A sub-task that was started, now or by the same call before. `answer` is how it ended."""

    id: str
    created: bool
    agent_name: str
    queue: str
    answer: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RequestAnswer:
    """What was answered to the request with this id."""

    id: str
    answer: dict[str, Any]


class Requests:
    """The requests of tasks. What an attempt does raises AttemptOutdated where another has taken over."""

    def __init__(self, database: Database, attempts: Attempts, *, depth_limit: int, sub_task_limit: int) -> None:
        self._database = database
        self._attempts = attempts
        self._depth_limit = depth_limit
        self._sub_task_limit = sub_task_limit

    async def answer(self, task_id: str, attempt: int, call_id: str) -> dict[str, Any] | None:
        """The answer, None where there is none yet."""
        row = await self._database.fetchrow(SQL["find_answer"], task_id, attempt, call_id)
        if row is None:
            raise await self._attempts.outdated(task_id, attempt)
        answer: dict[str, Any] | None = row["answer"]
        return answer

    async def start_sub_task(self, new: NewSubTask) -> SubTask:
        """Starts the sub-task, or finds the one that the same call made. Raises AgentNotFound, AgentInactive, and
        SubTaskRefused where the tree would become too deep or too broad."""
        async with self._database.transaction() as transaction:
            sub_task = await self._sub_task(transaction, new)
        if sub_task is None:
            raise await self._attempts.outdated(new.parent_task_id, new.attempt)
        return sub_task

    async def _sub_task(self, transaction: Transaction, new: NewSubTask) -> SubTask | None:
        await lock_tree(transaction, new.parent_task_id)
        parent = await transaction.fetchrow(SQL["lock_running"], new.parent_task_id, new.attempt)
        if parent is None:
            return None
        known = await transaction.fetchrow(SQL["find_sub_task"], new.parent_task_id, new.call_id)
        if known is not None:
            answer: dict[str, Any] | None = known["answer"]
            if answer is not None and answer["status"] != "completed":
                # One that completed says itself what it used.
                answer |= {"usage": dict(await transaction.fetchrow(SQL["measure_sub_task"], answer["task_id"]) or {})}
            return _sub_task_of(known, created=False, answer=answer)
        await self._check_bounds(transaction, new.parent_task_id, parent["depth"])
        created = await transaction.fetchrow(
            SQL["insert_sub_task"],
            new.id,
            new.agent_id,
            new.input,
            new.traceparent,
            DEFAULT_MAX_RETRIES,
            new.parent_task_id,
            new.call_id,
            {"agent_id": new.agent_id, "input": new.input},
        )
        if created is None:
            agent = await transaction.fetchrow(SQL["find_agent"], new.agent_id)
            raise agent_not_found(new.agent_id) if agent is None else agent_inactive(new.agent_id)
        return _sub_task_of(created, created=True, answer=None)

    async def wait(self, task_id: str, attempt: int, pendings: Sequence[Pending]) -> Change:
        """Ends the attempt: the task waits until all is answered, which may be so already; or ends, where a cancel was
        asked for meanwhile. The same again is harmless. Raises InvalidArgument for a sub-task that was not started."""
        async with self._database.transaction() as transaction:
            tree_id = await lock_tree(transaction, task_id)
            row = await transaction.fetchrow(SQL["wait_task"], task_id, attempt)
            affected: tuple[AffectedTask, ...] = ()
            if row is not None and tree_id is not None:
                await self._add(transaction, task_id, pendings)
                affected = await settle_tree(transaction, tree_id)
            row = row or await transaction.fetchrow(SQL["find_wait"], task_id, attempt)
            tasks = await with_pending(transaction, [] if row is None else [task_of(row)])
        if not tasks:
            raise await self._attempts.outdated(task_id, attempt)
        woken = [other.task for other in affected if other.task.id == tasks[0].id]
        others = tuple(other for other in affected if other.task.id != tasks[0].id)
        return Change(task=woken[0] if woken else tasks[0], affected=others)

    async def resume(self, task_id: str, answers: Sequence[RequestAnswer]) -> Task:
        """Keeps the answers, all or none of them; the task goes on where nothing is open any more. The same again is
        harmless. Raises TaskNotFound, TaskNotWaiting, AlreadyAnswered, and InvalidArgument."""
        given = ([answer.id for answer in answers], [answer.answer for answer in answers])
        async with self._database.transaction() as transaction:
            tree_id = await lock_tree(transaction, task_id)
            row = None if tree_id is None else await transaction.fetchrow(SQL["get_waiting"], task_id)
            if row is None or tree_id is None:
                raise task_not_found(task_id)
            matches = await transaction.fetch(SQL["match_answers"], task_id, *given)
            if not all(match["is_same"] for match in matches):
                (task,) = await with_pending(transaction, [task_of(row)])
                for place, match in enumerate(matches):
                    _check_match(match, place, task)
                await transaction.fetchrow(SQL["give_answers"], task_id, *given)
                await settle_tree(transaction, tree_id)
                row = await transaction.fetchrow(SQL["get_waiting"], task_id)
                if row is None:
                    raise Unavailable("The task was changed at this moment. Try again.")
            (task,) = await with_pending(transaction, [task_of(row)])
        return task

    async def _check_bounds(self, transaction: Transaction, parent_id: str, depth: int) -> None:
        if depth >= self._depth_limit:
            raise SubTaskRefused(
                f"Sub-tasks go {self._depth_limit} levels deep at most, and this would be one more. Do it here, or "
                "raise HEARTH_TASK_DEPTH_LIMIT of storage-service."
            )
        (count,) = await transaction.fetch(SQL["count_sub_tasks"], parent_id)
        if count["count"] >= self._sub_task_limit:
            raise SubTaskRefused(
                f"A task may start {self._sub_task_limit} sub-tasks, and this one has. Do the rest here, or raise "
                "HEARTH_SUB_TASK_LIMIT of storage-service."
            )

    async def _add(self, transaction: Transaction, task_id: str, pendings: Sequence[Pending]) -> None:
        asked = [pending for pending in pendings if pending.kind is not PendingKind.TASK]
        if asked:
            await transaction.fetchrow(
                SQL["add_requests"],
                task_id,
                [pending.id for pending in asked],
                [pending.kind.value for pending in asked],
                [pending.name for pending in asked],
                [pending.arguments for pending in asked],
                [_seconds(pending.timeout_seconds) for pending in asked],
                [pending.default for pending in asked],
            )
        ids = {pending.id for pending in pendings}
        (count,) = await transaction.fetch(SQL["count_requests"], task_id, list(ids))
        if count["count"] < len(ids):
            raise InvalidArgument("A run may wait for a sub-task only where it started it.")


def _sub_task_of(row: Record, *, created: bool, answer: dict[str, Any] | None) -> SubTask:
    return SubTask(id=str(row["id"]), created=created, agent_name=row["name"], queue=row["queue"], answer=answer)


def _seconds(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _check_match(match: Record, place: int, task: Task) -> None:
    """Raises what keeps one answer from being taken."""
    call_id, field = match["call_id"], f"results[{place}]"
    if match["is_same"]:
        return
    if match["is_answered"]:
        raise AlreadyAnswered(
            f"{call_id} was answered otherwise before, or its time was over. The first answer counts.",
            metadata={"task_id": task.id, "id": call_id},
        )
    if task.status is not TaskStatus.WAITING:
        raise TaskNotWaiting(
            f"Task {task.id} is {task.status}: it waits for no answer now.",
            metadata={"task_id": task.id, "status": task.status},
        )
    if match["kind"] is None or match["child_task_id"] is not None:
        open_ids = [pending.id for pending in task.pending if pending.kind is not PendingKind.TASK]
        message = f"is none of those that wait for an answer: {', '.join(open_ids) or 'none'}"
        raise InvalidArgument(f"{call_id} {message}.", fields=[FieldViolation(field=f"{field}.id", message=message)])
    check_answer(PendingKind(match["kind"]), match["arguments"], match["given_answer"], field=field)
