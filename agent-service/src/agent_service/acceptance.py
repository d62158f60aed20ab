"""What clients do with tasks: start runs, cancel them, answer what they wait for, and start them again."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from hearth_runtime.agents import DOCUMENTS_AGENT_ID, ClientTool
from hearth_runtime.errors import AgentReserved, TaskNotRetryable
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Task, TaskStatus
from hearth_runtime.telemetry import current_traceparent
from loguru import logger

from agent_service.bell import Bell
from agent_service.client_tools import check_client_tools
from agent_service.publisher import EventPublisher, RunEvents
from agent_service.request_store import RequestAnswer, StoredRequests
from agent_service.task_tree import TaskTree
from agent_service.tasks import Change, NewTask, turns_of


class TaskStore(Protocol):
    """Where tasks are kept; the errors are those of hearth.storage.v1.TaskStoreService."""

    async def create(self, new: NewTask) -> tuple[Task, bool]: ...

    async def cancel(self, task_id: str) -> Change: ...

    async def retry(self, task_id: str, *, from_start: bool, repeat_tool_calls: bool) -> Task: ...


class Tasks:
    """Accepts, cancels and resumes runs, and starts them again."""

    def __init__(self, store: TaskStore, requests: StoredRequests, bell: Bell, publisher: EventPublisher) -> None:
        self._store = store
        self._requests = requests
        self._tree = TaskTree(bell, publisher)
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
        tools: tuple[ClientTool, ...] = (),
    ) -> tuple[Task, bool]:
        """Stores the task, then rings. Once this returns it will end, whether or not a worker heard the doorbell.
        Raises AgentReserved for an agent of Hearth's own."""
        if agent_id.lower() == DOCUMENTS_AGENT_ID:
            raise AgentReserved("This agent reads documents: upload them with POST /api/v1/documents.")
        turns_of(task_input)
        check_client_tools(tools, field="tools")
        # As it was before there were users and tools, where none is named: a key may be older than this version.
        request: list[Any] = [agent_id, task_input, session_id] + ([] if user is None else [user])
        request += [[tool.to_json() for tool in tools]] if tools else []
        hashed = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
        task, created = await self._store.create(
            NewTask(
                id=new_id(),
                agent_id=agent_id,
                input=task_input,
                session_id=session_id,
                idempotency_key=idempotency_key,
                request_hash=hashlib.sha256(hashed).hexdigest(),
                traceparent=current_traceparent(),
                user=user,
                tools=tools,
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
                # What it has done is in the rows of documents, chunks and vectors; its checkpoints may be gone by now.
                return await self.retry(task.id, from_start=True, repeat_tool_calls=False)
            except TaskNotRetryable:
                logger.debug("somebody else started the task again", task_id=task.id)
        return task

    async def cancel(self, task_id: str) -> Task:
        """Ends a task that is queued or waits, asks the worker of a running one to stop; and so down its tree."""
        change = await self._store.cancel(task_id)
        task = change.task
        if task.status is TaskStatus.CANCELLED:
            await self._events(task).ended(task)
        else:
            await self._bell.tell_cancel(task_id)
        await self._tree.follow(change.affected)
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

    async def resume(self, task_id: str, answers: Sequence[RequestAnswer]) -> Task:
        """Answers what the task waits for, and rings where nothing is open any more. The same again is harmless."""
        task = await self._requests.resume(task_id, answers)
        if task.status is TaskStatus.PENDING:
            await self._events(task).status("pending", "answered; it goes on", resumed=True)
            await self._bell.ring(task.id, queue=task.queue)
        logger.info("task answered", task_id=task.id, agent_id=task.agent_id, status=task.status.value)
        return task

    def _events(self, task: Task) -> RunEvents:
        return RunEvents(
            self._publisher,
            task_id=task.id,
            agent_id=task.agent_id,
            attempt=task.attempt,
            traceparent=current_traceparent(),
            root_task_id=task.root_task_id,
            owner=task.owner,
        )
