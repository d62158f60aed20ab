"""Time travel: what the steps of a task left behind, and tasks that are made from it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from hearth_runtime.checkpoints import Checkpoint, SavedCheckpoint, TypedBytes
from hearth_runtime.errors import AgentReserved, CheckpointNotFound, FieldViolation, InvalidArgument
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import DOCUMENTS, Task
from hearth_runtime.telemetry import current_traceparent
from loguru import logger

from agent_service.bell import Bell
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.history_store import NewFork, NewReplay, StoredHistories
from agent_service.recording import checked_answers
from agent_service.states import State
from agent_service.storage import StoredTasks
from agent_service.tasks import turns_of

PAGE_LIMIT = 100


@dataclass(frozen=True, kw_only=True)
class TaskCheckpoint:
    """The state of a run between two steps."""

    id: str
    finished: tuple[str, ...]
    next: tuple[str, ...]
    attempt: int
    created_at: datetime
    state: dict[str, Any]
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class ForkRequest:
    """What to fork, from where, and what is to be otherwise."""

    task_id: str
    checkpoint_id: str | None
    step: str | None
    state: dict[str, Any] | None
    input: dict[str, Any] | None
    answers: dict[str, Any]
    idempotency_key: str | None


class TimeTravel:
    """Lists checkpoints, and starts tasks from them."""

    def __init__(
        self, histories: StoredHistories, checkpoints: StoredCheckpoints, tasks: StoredTasks, bell: Bell
    ) -> None:
        self._histories = histories
        self._checkpoints = checkpoints
        self._tasks = tasks
        self._bell = bell

    async def list(self, task_id: str, *, size: int, token: str) -> tuple[tuple[TaskCheckpoint, ...], str]:
        """The checkpoints, the first one first, and the token of the next page. Raises TaskNotFound, HistoryExpired."""
        if not 1 <= size <= PAGE_LIMIT:
            message = f"must be 1 to {PAGE_LIMIT}"
            raise InvalidArgument(f"limit {message}.", fields=[FieldViolation(field="limit", message=message)])
        saved, token = await self._histories.checkpoints(task_id, size=size, token=token)
        before = await self._before(saved[0]) if saved else ()
        shown: list[TaskCheckpoint] = []
        for one in saved:
            state = State.of(one.checkpoint)
            values, is_cut = state.shown()
            shown.append(
                TaskCheckpoint(
                    id=one.checkpoint.id,
                    finished=before,
                    next=state.next_steps,
                    attempt=one.attempt,
                    created_at=one.created_at,
                    state=values,
                    is_cut=is_cut,
                )
            )
            before = state.next_steps
        return tuple(shown), token

    async def fork(self, request: ForkRequest) -> Task:
        """Starts a task that begins as a copy of this one, from there on with edits, and lives its own life.

        Raises TaskNotFound, HistoryExpired, CheckpointNotFound, InvalidArgument, AgentReserved, and what stands in the
        way of any new task.
        """
        await self._check(request.task_id)
        if request.input is not None:
            turns_of(request.input)
        checkpoint_id, edited = await self._edited(request)
        wanted = [
            request.task_id,
            request.checkpoint_id,
            request.step,
            request.state,
            request.input,
            request.answers,
        ]
        task, created = await self._histories.fork(
            NewFork(
                id=new_id(),
                task_id=request.task_id,
                checkpoint_id=checkpoint_id,
                checkpoint=edited,
                input=request.input,
                answers=checked_answers(request.answers),
                idempotency_key=request.idempotency_key,
                request_hash=_hash(["fork", *wanted]),
                traceparent=current_traceparent(),
            )
        )
        return await self._started(task, created)

    async def replay(self, task_id: str, *, idempotency_key: str | None) -> Task:
        """Starts a task that does again what this one did. Raises TaskNotFound, HistoryExpired, TaskNotReplayable,
        AgentReserved, QueueFull."""
        await self._check(task_id)
        task, created = await self._histories.replay(
            NewReplay(
                id=new_id(),
                task_id=task_id,
                idempotency_key=idempotency_key,
                request_hash=_hash(["replay", task_id]),
                traceparent=current_traceparent(),
            )
        )
        return await self._started(task, created)

    async def _check(self, task_id: str) -> None:
        if (await self._tasks.get(task_id)).queue == DOCUMENTS:
            raise AgentReserved("This task reads a document: upload that again with POST /api/v1/documents.")

    async def _started(self, task: Task, created: bool) -> Task:
        if created:
            await self._bell.ring(task.id, queue=task.queue)
            origin = task.forked_from_task_id or task.replay_of_task_id
            logger.info("task accepted", task_id=task.id, agent_id=task.agent_id, made_from=origin)
        return task

    async def _before(self, first: SavedCheckpoint) -> tuple[str, ...]:
        """The steps that the checkpoint came of."""
        stored = first.checkpoint
        if stored.parent_id is None:
            return ()
        try:
            kept = await self._checkpoints.get(stored.task_id, namespace="", checkpoint_id=stored.parent_id)
        except CheckpointNotFound:
            return ()
        return State.of(kept.checkpoint).next_steps

    async def _edited(self, request: ForkRequest) -> tuple[str | None, TypedBytes | None]:
        """The checkpoint to begin with, and what is to be in its place where its state is edited."""
        if request.checkpoint_id is not None and request.step is not None:
            raise _invalid("step", "cannot be given together with checkpoint_id")
        if request.step is not None:
            checkpoint = await self._before_step(request.task_id, request.step)
        elif request.checkpoint_id is not None:
            # Where the history is kept no longer, this says so; the other would call it an unknown checkpoint.
            await self._histories.checkpoints(request.task_id, size=1, token="")
            kept = await self._checkpoints.get(request.task_id, namespace="", checkpoint_id=request.checkpoint_id)
            checkpoint = kept.checkpoint
        else:
            if request.state is not None:
                raise _invalid("state", "needs a checkpoint_id or a step: at its beginning a run has no state")
            return None, None
        state = State.of(checkpoint)
        if not state.next_steps:
            raise _invalid(
                "checkpoint_id", "is the run's last: no step follows it, so that there is nothing to do again"
            )
        return checkpoint.id, None if request.state is None else state.patched(request.state)

    async def _before_step(self, task_id: str, step: str) -> Checkpoint:
        """The last checkpoint that the step follows."""
        found: Checkpoint | None = None
        known: set[str] = set()
        token = ""
        while True:
            saved, token = await self._histories.checkpoints(task_id, size=PAGE_LIMIT, token=token)
            for one in saved:
                steps = State.of(one.checkpoint).next_steps
                known.update(steps)
                found = one.checkpoint if step in steps else found
            if not token:
                break
        if found is None:
            raise _invalid("step", f"is none of this run's, which has: {', '.join(sorted(known)) or 'none yet'}")
        return found


def _hash(request: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {message}.", fields=[FieldViolation(field=field, message=message)])
