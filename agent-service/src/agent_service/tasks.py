"""Tasks: acceptance, cancelling, and the values that go with a run."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import orjson
from hearth_runtime.agents import DOCUMENTS_AGENT_ID, Agent
from hearth_runtime.errors import AgentReserved, FieldViolation, InvalidArgument, TaskNotRetryable
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Task, TaskStatus, Turn
from hearth_runtime.telemetry import current_traceparent
from loguru import logger

from agent_service.bell import Bell
from agent_service.publisher import EventPublisher, RunEvents

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A task that this worker may run, with all that a run needs. `session_summary` is of the session's turns before
    `session_turns`."""

    task: Task
    agent: Agent
    session_summary: str | None
    session_turns: tuple[Turn, ...]
    traceparent: str
    queued: timedelta
    answers: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DueTask:
    """A task that the dispatcher found: pending, or ended."""

    task: Task
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What is stored of a request to run an agent."""

    id: str
    agent_id: str
    input: dict[str, Any]
    session_id: str | None
    idempotency_key: str | None
    request_hash: str
    traceparent: str
    user: str | None = None


class TaskStore(Protocol):
    """Where tasks are kept; the errors are those of hearth.storage.v1.TaskStoreService."""

    async def create(self, new: NewTask) -> tuple[Task, bool]: ...

    async def cancel(self, task_id: str) -> Task: ...

    async def retry(self, task_id: str, *, from_start: bool, repeat_tool_calls: bool) -> Task: ...


def turns_of(task_input: dict[str, Any]) -> tuple[Turn, ...]:
    """The messages that an input stands for. Raises InvalidArgument where it is neither a prompt nor messages."""
    match task_input:
        case {"prompt": str(prompt), **rest} if not rest and prompt:
            return (Turn(role="user", content=prompt),)
        case {"messages": [*messages], **rest} if not rest and messages:
            return tuple(_turn(index, message) for index, message in enumerate(messages))
    message = 'must be {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}'
    raise InvalidArgument(f"input {message}", fields=[FieldViolation(field="input", message=message)])


def _turn(index: int, message: object) -> Turn:
    match message:
        case {"role": str(role), "content": str(content), **rest} if not rest and role in ROLES:
            return Turn(role=role, content=content)
    text = f"needs a role ({', '.join(ROLES)}) and a content"
    raise InvalidArgument(
        f"input.messages.{index} {text}", fields=[FieldViolation(field=f"input.messages.{index}", message=text)]
    )


class Tasks:
    """Accepts and cancels runs, and starts them again."""

    def __init__(self, store: TaskStore, bell: Bell, publisher: EventPublisher) -> None:
        self._store = store
        self._bell = bell
        self._publisher = publisher

    async def create(
        self,
        *,
        agent_id: str,
        task_input: dict[str, Any],
        session_id: str | None,
        idempotency_key: str | None,
        user: str | None = None,
    ) -> tuple[Task, bool]:
        """Stores the task, then rings. Once this returns it will end, whether or not a worker heard the doorbell.
        Raises AgentReserved for an agent of Hearth's own."""
        if agent_id.lower() == DOCUMENTS_AGENT_ID:
            raise AgentReserved("This agent reads documents: upload them with POST /api/v1/documents.")
        turns_of(task_input)
        # As it was before there were users, where none is named: a key may be older than this version.
        asked = [agent_id, task_input, session_id] + ([] if user is None else [user])
        request = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        task, created = await self._store.create(
            NewTask(
                id=new_id(),
                agent_id=agent_id,
                input=task_input,
                session_id=session_id,
                idempotency_key=idempotency_key,
                request_hash=hashlib.sha256(request).hexdigest(),
                traceparent=current_traceparent(),
                user=user,
            )
        )
        if created:
            await self._bell.ring(task.id, queue=task.queue)
            logger.info("task accepted", task_id=task.id, agent_id=agent_id)
        return task, created

    async def start(self, new: NewTask) -> Task:
        """Stores a task of Hearth's own, then rings; starts one again that its key made before and that came to
        nothing."""
        task, created = await self._store.create(new)
        return await self.see_to(task, created=created)

    async def see_to(self, task: Task, *, created: bool) -> Task:
        """Rings for a task that was stored just now; starts one again that failed or was cancelled."""
        if created:
            await self._bell.ring(task.id, queue=task.queue)
            logger.info("task accepted", task_id=task.id, agent_id=task.agent_id)
        elif task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
            try:
                return await self.retry(task.id, from_start=False, repeat_tool_calls=False)
            except TaskNotRetryable:
                logger.debug("somebody else started the task again", task_id=task.id)
        return task

    async def cancel(self, task_id: str) -> Task:
        """Ends a queued task, asks the worker of a running one to stop."""
        task = await self._store.cancel(task_id)
        if task.status is TaskStatus.CANCELLED:
            await self._events(task).ended(task)
        else:
            await self._bell.tell_cancel(task_id)
        logger.info("task cancelled", task_id=task.id, agent_id=task.agent_id, status=task.status.value)
        return task

    async def retry(self, task_id: str, *, from_start: bool, repeat_tool_calls: bool) -> Task:
        """Puts a task that failed or was cancelled back into the queue, then rings."""
        task = await self._store.retry(task_id, from_start=from_start, repeat_tool_calls=repeat_tool_calls)
        origin = "the beginning" if from_start else "its last checkpoint"
        await self._events(task).status(
            "pending", f"started again from {origin}", retried_by_hand=True, from_start=from_start
        )
        await self._bell.ring(task.id, queue=task.queue)
        logger.info("task started again", task_id=task.id, agent_id=task.agent_id, from_start=from_start)
        return task

    def _events(self, task: Task) -> RunEvents:
        return RunEvents(
            self._publisher,
            task_id=task.id,
            agent_id=task.agent_id,
            attempt=task.attempt,
            traceparent=current_traceparent(),
        )
