"""The RPCs of agents and events: requests to values and back. Only whether a request is valid is decided here."""

from typing import Any

from hearth.agent.v1 import agent_pb2
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import (
    agent_store_pb2,
    agent_store_pb2_grpc,
    event_store_pb2,
    event_store_pb2_grpc,
)
from hearth_runtime.agents import Agent
from hearth_runtime.codec import to_message
from hearth_runtime.events import Event, EventKind
from hearth_runtime.identifiers import is_id

from storage_service import arguments
from storage_service.agents import AgentDraft, Agents, agent_not_found
from storage_service.events import EventFilter, Events
from storage_service.subscriptions import Subscription, Subscriptions

PAGE_LIMIT = 500
EVENT_PAGE_LIMIT = 5000
BATCH_LIMIT = 10_000


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
            scan_limit=_scan_limit(request.scan_limit),
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


def _subscription(subscription: Subscription) -> log_service_pb2.Subscription:
    return to_message(subscription, log_service_pb2.Subscription)


def _agent_id(text: str) -> str:
    if not is_id(text):
        raise agent_not_found(text)
    return text


def _draft(message: agent_pb2.Agent) -> AgentDraft:
    arguments.uuid(message.id, "id")
    return arguments.value_of(message, AgentDraft, "agent")


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


def _scan_limit(value: int) -> int | None:
    if value < 0:
        raise arguments.invalid("scan_limit", "must be 0 or more")
    return value or None


def _place(request: Any, field: str) -> Any:
    return arguments.place(getattr(request, field), field) if request.HasField(field) else None
