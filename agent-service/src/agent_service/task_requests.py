"""What one attempt of a task asks of others."""

from typing import Any

from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Pending, PendingKind, Task
from hearth_runtime.telemetry import current_traceparent

from agent_service.bell import Bell
from agent_service.request_store import StoredRequests
from agent_service.requests import Requests, RunWaits
from agent_service.tool_calls import ToolCalls


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
            await self._bell.ring(sub_task.id, queue=sub_task.queue)
        raise RunWaits(
            Pending(
                id=call_id,
                kind=PendingKind.TASK,
                name=sub_task.agent_name,
                arguments={"agent_id": agent_id, "input": task_input},
                task_id=sub_task.id,
            )
        )


class KeptRequests:
    """Requests that a workflow makes by itself, and not by a tool: each answer is kept in the journal of tool calls, so
    that a replay finds it there and asks nobody."""

    def __init__(self, requests: Requests, tool_calls: ToolCalls) -> None:
        self._requests = requests
        self._tool_calls = tool_calls

    async def ask(self, pending: Pending) -> dict[str, Any]:
        """The answer; raises RunWaits where there is none yet."""
        answer: dict[str, Any] = await self._tool_calls.make(
            call_id=f"{pending.id}:answer",
            tool_name=pending.name,
            arguments=pending.arguments,
            repeatable=True,
            call=lambda: self._requests.ask(pending),
        )
        return answer

    async def run_agent(self, *, call_id: str, agent_id: str, task_input: dict[str, Any]) -> dict[str, Any]:
        """How the run ended; raises RunWaits until it has, having started it where it was not started yet."""
        ended: dict[str, Any] = await self._tool_calls.make(
            call_id=f"{call_id}:answer",
            tool_name="run_agent",
            arguments={"agent_id": agent_id, "input": task_input},
            repeatable=True,
            call=lambda: self._requests.run_agent(call_id=call_id, agent_id=agent_id, task_input=task_input),
        )
        return ended
