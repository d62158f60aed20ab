"""Tasks: acceptance, cancelling, and the values that go with a run."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import orjson
from hearth_runtime.agents import Agent
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.events import EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Task, TaskStatus, Turn
from hearth_runtime.telemetry import current_traceparent
from loguru import logger

from agent_service.bell import Bell
from agent_service.publisher import EventPublisher, RunEvents

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A task that this worker may run, with all that a run needs."""

    task: Task
    agent: Agent
    session_turns: tuple[Turn, ...]
    traceparent: str
    queued: timedelta


@dataclass(frozen=True, kw_only=True)
class DueTask:
    """A task that the dispatcher found: pending, or ended on the spot."""

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


class TaskStore(Protocol):
    """Where tasks are kept; the errors are those of hearth.storage.v1.TaskStoreService."""

    async def create(self, new: NewTask) -> tuple[Task, bool]: ...

    async def cancel(self, task_id: str) -> Task: ...


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
    """Accepts and cancels runs."""

    def __init__(self, store: TaskStore, bell: Bell, publisher: EventPublisher) -> None:
        self._store = store
        self._bell = bell
        self._publisher = publisher

    async def create(
        self, *, agent_id: str, task_input: dict[str, Any], session_id: str | None, idempotency_key: str | None
    ) -> tuple[Task, bool]:
        """Stores the task, then rings. Once this returns it will end, whether or not a worker heard the doorbell."""
        turns_of(task_input)
        request = orjson.dumps([agent_id, task_input, session_id], option=orjson.OPT_SORT_KEYS)
        task, created = await self._store.create(
            NewTask(
                id=new_id(),
                agent_id=agent_id,
                input=task_input,
                session_id=session_id,
                idempotency_key=idempotency_key,
                request_hash=hashlib.sha256(request).hexdigest(),
                traceparent=current_traceparent(),
            )
        )
        if created:
            await self._bell.ring(task.id)
            logger.info("task accepted", task_id=task.id, agent_id=agent_id)
        return task, created

    async def cancel(self, task_id: str) -> Task:
        """Ends a queued task, asks the worker of a running one to stop."""
        task = await self._store.cancel(task_id)
        if task.status is TaskStatus.CANCELLED:
            await publish_end(self._publisher, task, current_traceparent())
        else:
            await self._bell.tell_cancel(task_id)
        logger.info("task cancelled", task_id=task.id, agent_id=task.agent_id, status=task.status.value)
        return task


async def publish_end(publisher: EventPublisher, task: Task, traceparent: str) -> None:
    """Tells subscribers of a task that ended without a worker; one that misses it learns it from the row."""
    events = RunEvents(
        publisher, task_id=task.id, agent_id=task.agent_id, attempt=task.attempt, traceparent=traceparent
    )
    failed = task.status is TaskStatus.FAILED
    context: dict[str, Any] = {"status": task.status.value}
    if failed:
        context["code"] = task.error_code
    await events.publish(
        EventKind.STATUS,
        level=EventLevel.ERROR if failed else EventLevel.INFO,
        message=(task.error_message or "failed") if failed else task.status.value,
        context=context,
    )
