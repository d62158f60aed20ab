"""The RPCs of hearth.storage.v1: requests to values and back. Only whether a request is valid is decided here."""

from typing import Any

from hearth.agent.v1 import agent_pb2, task_pb2
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import (
    agent_store_pb2,
    agent_store_pb2_grpc,
    event_store_pb2,
    event_store_pb2_grpc,
    task_store_pb2,
    task_store_pb2_grpc,
)
from hearth_runtime.agents import Agent
from hearth_runtime.codec import to_message
from hearth_runtime.events import Event, EventKind
from hearth_runtime.identifiers import is_id
from hearth_runtime.tasks import Task

from storage_service import arguments
from storage_service.agents import AgentDraft, Agents, agent_not_found
from storage_service.attempts import Attempts, Ending
from storage_service.events import EventFilter, Events
from storage_service.queue import Queue
from storage_service.subscriptions import Subscription, Subscriptions
from storage_service.tasks import NewTask, TaskFilter, Tasks, task_not_found

PAGE_LIMIT = 500
EVENT_PAGE_LIMIT = 5000
BATCH_LIMIT = 10_000
DUE_LIMIT = 1000


class AgentStoreRpc(agent_store_pb2_grpc.AgentStoreServiceServicer):
    """The table `agents`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def InsertAgent(self, request: Any, context: Any) -> agent_store_pb2.InsertAgentResponse:
        return agent_store_pb2.InsertAgentResponse(agent=_agent(await self._agents.insert(_draft(request.agent))))

    async def GetAgent(self, request: Any, context: Any) -> agent_store_pb2.GetAgentResponse:
        return agent_store_pb2.GetAgentResponse(agent=_agent(await self._agents.get(_agent_id(request.id))))

    async def ListAgents(self, request: Any, context: Any) -> agent_store_pb2.ListAgentsResponse:
        page = await self._agents.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            is_active=request.is_active if request.HasField("is_active") else None,
            name=request.name if request.HasField("name") else None,
        )
        return agent_store_pb2.ListAgentsResponse(
            agents=[_agent(agent) for agent in page.items], next_page_token=page.next_token
        )

    async def UpdateAgent(self, request: Any, context: Any) -> agent_store_pb2.UpdateAgentResponse:
        _agent_id(request.agent.id)
        return agent_store_pb2.UpdateAgentResponse(agent=_agent(await self._agents.update(_draft(request.agent))))

    async def DeactivateAgent(self, request: Any, context: Any) -> agent_store_pb2.DeactivateAgentResponse:
        await self._agents.deactivate(_agent_id(request.id))
        return agent_store_pb2.DeactivateAgentResponse()


class TaskStoreRpc(task_store_pb2_grpc.TaskStoreServiceServicer):
    """The tables `tasks`, `task_attempts` and `sessions`."""

    def __init__(self, tasks: Tasks, attempts: Attempts, queue: Queue) -> None:
        self._tasks = tasks
        self._attempts = attempts
        self._queue = queue

    async def CreateTask(self, request: Any, context: Any) -> task_store_pb2.CreateTaskResponse:
        task, created = await self._tasks.create(_new_task(request))
        return task_store_pb2.CreateTaskResponse(task=_task(task), created=created)

    async def GetTask(self, request: Any, context: Any) -> task_store_pb2.GetTaskResponse:
        return task_store_pb2.GetTaskResponse(task=_task(await self._tasks.get(_task_id(request.id))))

    async def ListTasks(self, request: Any, context: Any) -> task_store_pb2.ListTasksResponse:
        where = arguments.value_of(request, TaskFilter)
        if where.agent_id is not None:
            arguments.uuid(where.agent_id, "agent_id")
        arguments.known(where.statuses, "status")
        page = await self._tasks.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token, where=where
        )
        return task_store_pb2.ListTasksResponse(
            tasks=[_task(task) for task in page.items], next_page_token=page.next_token
        )

    async def ClaimTask(self, request: Any, context: Any) -> task_store_pb2.ClaimTaskResponse:
        claim = await self._attempts.claim(
            arguments.uuid(request.id, "id"),
            arguments.name(request.worker_id, "worker_id"),
            arguments.span(request.lease, "lease", positive=True),
        )
        return to_message(claim, task_store_pb2.ClaimTaskResponse)

    async def ExtendLease(self, request: Any, context: Any) -> task_store_pb2.ExtendLeaseResponse:
        cancel_requested = await self._attempts.extend_lease(
            arguments.uuid(request.id, "id"), request.attempt, arguments.span(request.lease, "lease", positive=True)
        )
        return task_store_pb2.ExtendLeaseResponse(cancel_requested=cancel_requested)

    async def FinishTask(self, request: Any, context: Any) -> task_store_pb2.FinishTaskResponse:
        ending = arguments.value_of(request, Ending)
        arguments.uuid(ending.id, "id")
        if ending.output is not None:
            arguments.json_object(ending.output, "output")
        if not ending.status.is_final:
            raise arguments.invalid("status", "must be completed, failed or cancelled")
        return task_store_pb2.FinishTaskResponse(task=_task(await self._attempts.finish(ending)))

    async def ReleaseTask(self, request: Any, context: Any) -> task_store_pb2.ReleaseTaskResponse:
        task = await self._attempts.release(
            arguments.uuid(request.id, "id"),
            request.attempt,
            is_retry=request.is_retry,
            delay=arguments.span(request.delay, "delay"),
            error_code=request.error_code if request.HasField("error_code") else None,
            error_message=request.error_message if request.HasField("error_message") else None,
        )
        return task_store_pb2.ReleaseTaskResponse(task=_task(task))

    async def CancelTask(self, request: Any, context: Any) -> task_store_pb2.CancelTaskResponse:
        return task_store_pb2.CancelTaskResponse(task=_task(await self._tasks.cancel(_task_id(request.id))))

    async def TakeDueTasks(self, request: Any, context: Any) -> task_store_pb2.TakeDueTasksResponse:
        if not 1 <= request.limit <= DUE_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {DUE_LIMIT}")
        taken = await self._queue.take_due(
            limit=request.limit,
            ring_again_after=arguments.span(request.ring_again_after, "ring_again_after"),
            delivered_before=arguments.time(request, "delivered_before"),
        )
        return task_store_pb2.TakeDueTasksResponse(
            due_tasks=[to_message(due, task_store_pb2.TakeDueTasksResponse.DueTask) for due in taken]
        )

    async def GetQueueStats(self, request: Any, context: Any) -> task_store_pb2.GetQueueStatsResponse:
        return to_message(await self._queue.stats(), task_store_pb2.GetQueueStatsResponse)


class EventStoreRpc(event_store_pb2_grpc.EventStoreServiceServicer):
    """The tables `task_logs` and `log_subscriptions`."""

    def __init__(self, events: Events, subscriptions: Subscriptions) -> None:
        self._events = events
        self._subscriptions = subscriptions

    async def AppendEvents(self, request: Any, context: Any) -> event_store_pb2.AppendEventsResponse:
        if len(request.events) > BATCH_LIMIT:
            raise arguments.invalid("events", f"must be at most {BATCH_LIMIT}")
        events = [_event(event, f"events[{n}]") for n, event in enumerate(request.events)]
        stored = await self._events.append(events) if events else 0
        return event_store_pb2.AppendEventsResponse(stored_count=stored)

    async def ListEvents(self, request: Any, context: Any) -> event_store_pb2.ListEventsResponse:
        page = await self._events.list(
            page_size=arguments.page_size(request.page_size, limit=EVENT_PAGE_LIMIT),
            token=request.page_token,
            where=_filter(request.filter),
            descending=request.descending,
            after=_place(request, "after_stream_id"),
            before=_place(request, "before_stream_id"),
        )
        return event_store_pb2.ListEventsResponse(
            events=[to_message(event, event_pb2.Event) for event in page.items], next_page_token=page.next_token
        )

    async def GetSubscription(self, request: Any, context: Any) -> event_store_pb2.GetSubscriptionResponse:
        return event_store_pb2.GetSubscriptionResponse(
            subscription=_subscription(await self._subscriptions.get(request.name))
        )

    async def SaveSubscription(self, request: Any, context: Any) -> event_store_pb2.SaveSubscriptionResponse:
        subscription = await self._subscriptions.save(
            arguments.name(request.name, "name"),
            where=_filter(request.filter) if request.HasField("filter") else None,
            last_seen=_place(request, "last_seen_stream_id"),
            last_seen_timestamp=arguments.time(request, "last_seen_timestamp"),
        )
        return event_store_pb2.SaveSubscriptionResponse(subscription=_subscription(subscription))


def _agent(agent: Agent) -> agent_pb2.Agent:
    return to_message(agent, agent_pb2.Agent)


def _task(task: Task) -> task_pb2.Task:
    return to_message(task, task_pb2.Task)


def _subscription(subscription: Subscription) -> log_service_pb2.Subscription:
    return to_message(subscription, log_service_pb2.Subscription)


def _agent_id(text: str) -> str:
    if not is_id(text):
        raise agent_not_found(text)
    return text


def _task_id(text: str) -> str:
    if not is_id(text):
        raise task_not_found(text)
    return text


def _draft(message: agent_pb2.Agent) -> AgentDraft:
    arguments.uuid(message.id, "id")
    return arguments.value_of(message, AgentDraft, "agent")


def _new_task(request: task_store_pb2.CreateTaskRequest) -> NewTask:
    new = arguments.value_of(request, NewTask)
    arguments.uuid(new.id, "id")
    arguments.uuid(new.agent_id, "agent_id")
    arguments.json_object(new.input, "input")
    if new.session_id is not None:
        arguments.uuid(new.session_id, "session_id")
    if new.idempotency_key is not None:
        arguments.name(new.idempotency_key, "idempotency_key")
    return new


def _event(message: event_pb2.Event, field: str) -> Event:
    event = arguments.value_of(message, Event, field)
    arguments.place(event.stream_id, f"{field}.stream_id")
    for name in ("id", "task_id", "agent_id"):
        arguments.uuid(getattr(event, name), f"{field}.{name}")
    arguments.json_object(event.context, f"{field}.context")
    if event.kind == EventKind.DELTA:
        raise arguments.invalid(f"{field}.kind", "must not be delta: its message comes whole in an event of its own")
    return event


def _filter(message: log_service_pb2.EventFilter) -> EventFilter:
    where = arguments.value_of(message, EventFilter, "filter")
    arguments.uuids(where.task_ids, "task_ids")
    arguments.uuids(where.agent_ids, "agent_ids")
    arguments.known(where.levels, "levels")
    arguments.known(where.kinds, "kinds")
    return where


def _place(request: Any, field: str) -> Any:
    return arguments.place(getattr(request, field), field) if request.HasField(field) else None
