"""storage-service as agent-service sees it: its RPCs in this service's own values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from hearth.agent.v1 import agent_pb2, task_pb2
from hearth.storage.v1 import agent_store_pb2, agent_store_pb2_grpc, task_store_pb2, task_store_pb2_grpc
from hearth_runtime.agents import Agent
from hearth_runtime.checkpoints import Checkpoint
from hearth_runtime.codec import duration, from_message, timestamp, to_message
from hearth_runtime.principals import acting_for
from hearth_runtime.tasks import RUNS, Attempt, Task, TaskStatus, Turn

from agent_service.agents import AgentDraft
from agent_service.creations import Creations
from agent_service.tasks import Change, Claim, DueTask, Ended, NewTask, Wanted

# In one call.
LEASES_LIMIT = 500


class StoredAgents:
    """The table `agents`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = agent_store_pb2_grpc.AgentStoreServiceStub(channel)

    async def insert(self, agent_id: str, draft: AgentDraft) -> Agent:
        message = _message(agent_id, draft, is_active=True)
        answer = await self._stub.InsertAgent(agent_store_pb2.InsertAgentRequest(agent=message))
        return from_message(answer.agent, Agent)

    async def get(self, agent_id: str) -> Agent:
        answer = await self._stub.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id))
        return from_message(answer.agent, Agent)

    async def page(
        self, *, size: int, token: str, is_active: bool | None, name: str | None
    ) -> tuple[tuple[Agent, ...], str]:
        answer = await self._stub.ListAgents(
            agent_store_pb2.ListAgentsRequest(page_size=size, page_token=token, is_active=is_active, name=name)
        )
        return tuple(from_message(a, Agent) for a in answer.agents), answer.next_page_token

    async def update(self, agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent:
        message = _message(agent_id, draft, is_active=is_active)
        answer = await self._stub.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=message))
        return from_message(answer.agent, Agent)

    async def deactivate(self, agent_id: str) -> None:
        await self._stub.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))


def _message(agent_id: str, draft: AgentDraft, *, is_active: bool) -> agent_pb2.Agent:
    message = to_message(draft, agent_pb2.Agent)
    message.id, message.is_active = agent_id, is_active
    return message


@dataclass(frozen=True, kw_only=True)
class _Finish:
    """FinishTaskRequest."""

    id: str
    attempt: int
    status: TaskStatus
    output: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    new_turns: tuple[Turn, ...]
    checkpoints: tuple[Checkpoint, ...]
    next: Wanted | None


class StoredTasks:
    """The tables `tasks`, `task_attempts` and `sessions`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = task_store_pb2_grpc.TaskStoreServiceStub(channel)
        self._creations = Creations(self._stub)

    async def create(self, new: NewTask) -> tuple[Task, bool]:
        answer = await self._creations.create(to_message(new, task_store_pb2.CreateTaskRequest))
        return from_message(answer.task, Task), answer.created

    async def get(self, task_id: str) -> Task:
        answer = await self._stub.GetTask(task_store_pb2.GetTaskRequest(id=task_id))
        return from_message(answer.task, Task)

    async def page(
        self,
        *,
        size: int,
        token: str,
        agent_id: str | None,
        statuses: Sequence[TaskStatus],
        created_after: datetime | None,
        created_before: datetime | None,
        parent_task_id: str | None = None,
    ) -> tuple[tuple[Task, ...], str]:
        request = task_store_pb2.ListTasksRequest(
            page_size=size,
            page_token=token,
            agent_id=agent_id,
            statuses=[task_pb2.Task.Status.Value(f"STATUS_{s.name}") for s in statuses],
            created_after=timestamp(created_after) if created_after else None,
            created_before=timestamp(created_before) if created_before else None,
            parent_task_id=parent_task_id,
        )
        answer = await self._stub.ListTasks(request)
        return tuple(from_message(t, Task) for t in answer.tasks), answer.next_page_token

    async def cancel(self, task_id: str) -> Change:
        answer = await self._stub.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))
        return from_message(answer, Change)

    async def claim(self, wanted: Wanted) -> Claim:
        """The task that is wanted, for this worker to run. Raises NoTaskWaits."""
        request = to_message(wanted, task_store_pb2.ClaimTaskRequest)
        return from_message(await self._stub.ClaimTask(request), Claim)

    async def extend(self, tasks: Sequence[Task], *, lease: timedelta) -> Mapping[tuple[str, int], bool]:
        """Keeps the leases of the attempts, LEASES_LIMIT at most. Tells of each that is not outdated, by the id of the
        task and its number, whether a cancel was asked for."""
        attempts = [task_store_pb2.ExtendLeasesRequest.Attempt(id=task.id, attempt=task.attempt) for task in tasks]
        request = task_store_pb2.ExtendLeasesRequest(attempts=attempts, lease=duration(lease))
        with acting_for(None):  # the attempt alone decides
            answer = await self._stub.ExtendLeases(request)
        return {(held.id, held.attempt): held.cancel_requested for held in answer.leases}

    async def finish(
        self,
        task: Task,
        *,
        status: TaskStatus,
        output: dict[str, Any] | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
        new_turns: tuple[Turn, ...] = (),
        checkpoints: Sequence[Checkpoint] = (),
        wanted: Wanted | None = None,
    ) -> Ended:
        """Ends the task, keeps the checkpoints of it with that, and claims what is wanted next. Raises
        AttemptOutdated."""
        ended = _Finish(
            id=task.id,
            attempt=task.attempt,
            status=status,
            output=output,
            error_code=error_code,
            error_message=error_message,
            new_turns=new_turns,
            checkpoints=tuple(checkpoints),
            next=wanted,
        )
        with acting_for(None):  # the attempt alone decides
            answer = await self._stub.FinishTask(to_message(ended, task_store_pb2.FinishTaskRequest))
        return from_message(answer, Ended)

    async def release(
        self,
        task: Task,
        *,
        is_retry: bool,
        delay: timedelta = timedelta(),
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> Change:
        """Puts the task back. Raises AttemptOutdated."""
        answer = await self._stub.ReleaseTask(
            task_store_pb2.ReleaseTaskRequest(
                id=task.id,
                attempt=task.attempt,
                is_retry=is_retry,
                delay=duration(delay),
                error_code=error_code,
                error_message=error_message,
            )
        )
        return from_message(answer, Change)

    async def retry(self, task_id: str, *, from_start: bool, repeat_tool_calls: bool) -> Task:
        """Puts a task that failed or was cancelled back into the queue."""
        answer = await self._stub.RetryTask(
            task_store_pb2.RetryTaskRequest(id=task_id, from_start=from_start, repeat_tool_calls=repeat_tool_calls)
        )
        return from_message(answer.task, Task)

    async def attempts(self, task_id: str, *, size: int, token: str) -> tuple[tuple[Attempt, ...], str]:
        """A page of a task's attempts, the first one first."""
        answer = await self._stub.ListAttempts(
            task_store_pb2.ListAttemptsRequest(task_id=task_id, page_size=size, page_token=token)
        )
        return tuple(from_message(a, Attempt) for a in answer.attempts), answer.next_page_token

    async def record_resume(self, task: Task, step: str) -> None:
        """Notes which step the attempt goes on with. Raises AttemptOutdated."""
        await self._stub.RecordResume(task_store_pb2.RecordResumeRequest(id=task.id, attempt=task.attempt, step=step))

    async def settle_ends(self, *, limit: int, ended_before: timedelta) -> tuple[tuple[DueTask, ...], int]:
        """Looks at tasks that ended so long ago: those whose last event is not kept yet, and how many others."""
        answer = await self._stub.SettleEnds(
            task_store_pb2.SettleEndsRequest(limit=limit, ended_before=duration(ended_before))
        )
        return tuple(from_message(e, DueTask) for e in answer.unsettled), answer.settled_count

    async def queues(self) -> tuple[str, ...]:
        """The queues in which tasks wait for a worker or run."""
        return tuple((await self._stub.ListQueues(task_store_pb2.ListQueuesRequest())).queues)

    async def take_due(
        self, *, queue: str = RUNS, limit: int, ring_again_after: timedelta, delivered_before: datetime | None
    ) -> tuple[tuple[DueTask, ...], datetime | None]:
        """Tasks of the queue whose doorbell must ring, each given to one caller only; and when the doorbell rang that
        has waited longest for its task to be claimed, where any has."""
        answer = await self._stub.TakeDueTasks(
            task_store_pb2.TakeDueTasksRequest(
                queue=queue,
                limit=limit,
                ring_again_after=duration(ring_again_after),
                delivered_before=timestamp(delivered_before) if delivered_before else None,
            )
        )
        oldest = answer.oldest_ring_time.ToDatetime(tzinfo=UTC) if answer.HasField("oldest_ring_time") else None
        return tuple(from_message(d, DueTask) for d in answer.due_tasks), oldest
