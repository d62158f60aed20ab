"""What one attempt of a task asks of others."""

from typing import Any

from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Pending, PendingKind, Task
from hearth_runtime.telemetry import current_traceparent

from agent_service.bell import Bell
from agent_service.request_store import StoredRequests
from agent_service.requests import RunWaits


class TaskRequests:
    """The `Requests` of the task that this attempt runs."""

    def __init__(self, store: StoredRequests, bell: Bell, task: Task) -> None:
        self._store = store
        self._bell = bell
        self._task = task

    async def ask(self, pending: Pending) -> dict[str, Any]:
        """The answer; raises RunWaits where there is none yet."""
        answer = await self._store.answer(self._task, pending.id)
        if answer is None:
            raise RunWaits(pending)
        return answer

    async def run_agent(self, *, call_id: str, agent_id: str, task_input: dict[str, Any]) -> dict[str, Any]:
        """How the run ended; raises RunWaits until it has, having started it where it was not started yet."""
        sub_task = await self._store.start_sub_task(
            self._task,
            call_id=call_id,
            sub_task_id=new_id(),
            agent_id=agent_id,
            task_input=task_input,
            traceparent=current_traceparent(),
        )
        if sub_task.answer is not None:
            return sub_task.answer
        if sub_task.created:
            await self._bell.ring(sub_task.id)
        raise RunWaits(
            Pending(
                id=call_id,
                kind=PendingKind.TASK,
                name=sub_task.agent_name,
                arguments={"agent_id": agent_id, "input": task_input},
                task_id=sub_task.id,
            )
        )
