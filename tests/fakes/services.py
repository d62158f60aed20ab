"""The services that the gateway asks, in memory, behind real gRPC servers that can be stopped and started again."""

# RPCs are named as the .proto files name them.

import asyncio
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import grpc.aio
from agent_service.agent_tools import AgentTools
from agent_service.key_rpc import KeyRpc
from agent_service.keys import Keys
from agent_service.secret_keys import SecretKeys
from agent_service.settings import ToolSettings
from agent_service.tool import ToolHost
from agent_service.tool_rpc import ToolRpc
from agent_service.tool_trials import ToolTrials
from google.protobuf.timestamp_pb2 import Timestamp
from hearth.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    memory_pb2,
    memory_service_pb2,
    memory_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    tool_service_pb2,
)
from hearth.agent.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth.log.v1 import event_pb2, log_service_pb2, log_service_pb2_grpc
from hearth_runtime.agents import Agent
from hearth_runtime.codec import from_message
from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import (
    AgentInactive,
    AgentNotFound,
    FieldViolation,
    HearthError,
    IdempotencyConflict,
    InvalidArgument,
    MemoryNotFound,
    SessionInUse,
    SessionNotFound,
    SubscriptionNotFound,
    TaskFinished,
    TaskNotFound,
    TaskNotReplayable,
    TaskNotRetryable,
    TaskNotWaiting,
    Unimplemented,
)
from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings

from fakes.agent_tools import EchoKind, Kinds, Rows
from fakes.documents import Documents
from fakes.keys import KeyRows

FINAL = {task_pb2.Task.STATUS_COMPLETED, task_pb2.Task.STATUS_FAILED, task_pb2.Task.STATUS_CANCELLED}


def now() -> Timestamp:
    """The time."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


@dataclass(kw_only=True)
class State:
    """What the services know, whether they run or not."""

    agents: dict[str, agent_pb2.Agent] = field(default_factory=dict)
    tasks: dict[str, task_pb2.Task] = field(default_factory=dict)
    keys: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    events: list[event_pb2.Event] = field(default_factory=list)
    attempts: dict[str, list[task_pb2.Attempt]] = field(default_factory=dict)
    retries: list[task_service_pb2.RetryTaskRequest] = field(default_factory=list)
    memories: dict[str, memory_pb2.Memory] = field(default_factory=dict)
    answers: list[task_service_pb2.ResumeTaskRequest] = field(default_factory=list)
    created: list[task_service_pb2.CreateTaskRequest] = field(default_factory=list)
    sessions: dict[str, session_pb2.Session] = field(default_factory=dict)
    turns: dict[str, list[session_pb2.SessionTurn]] = field(default_factory=dict)
    forks: list[history_service_pb2.ForkTaskRequest] = field(default_factory=list)
    subscriptions: dict[str, log_service_pb2.Subscription] = field(default_factory=dict)
    saves: list[log_service_pb2.SaveSubscriptionRequest] = field(default_factory=list)
    open_streams: int = 0
    streams_opened: int = 0
    # What the next call raises, by the name of the RPC.
    failures: dict[str, Exception] = field(default_factory=dict)
    # How long each call takes, by the name of the RPC.
    delays: dict[str, float] = field(default_factory=dict)
    # How long the last call had, by the name of the RPC; None where it had no deadline.
    time_remaining: dict[str, float | None] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def add_agent(self, **fields: Any) -> agent_pb2.Agent:
        """An agent."""
        agent = agent_pb2.Agent(
            id=new_id(),
            name="helper",
            model_name="m",
            config=agent_pb2.AgentConfig(),
            is_active=True,
            created_at=now(),
        )
        agent.updated_at.CopyFrom(agent.created_at)
        for name, value in fields.items():
            setattr(agent, name, value)
        self.agents[agent.id] = agent
        return agent

    async def add_task(self, **fields: Any) -> task_pb2.Task:
        """A running task, with an agent of its own unless one is given."""
        agent_id = fields.pop("agent_id", None) or (await self.add_agent()).id
        task = task_pb2.Task(
            id=new_id(),
            agent_id=agent_id,
            status=fields.pop("status", task_pb2.Task.STATUS_RUNNING),
            input=fields.pop("input", '{"prompt":"hi"}'),
            attempt=1,
            created_at=now(),
            **fields,
        )
        self.tasks[task.id] = task
        return task

    def add_session(self, *contents: str, **fields: Any) -> session_pb2.Session:
        """A session of these turns, which users and assistants take in turn."""
        session = session_pb2.Session(
            id=new_id(), first_turn=1, turn_count=len(contents), created_at=now(), updated_at=now(), **fields
        )
        self.turns[session.id] = [
            session_pb2.SessionTurn(number=n, role="user" if n % 2 else "assistant", content=content)
            for n, content in enumerate(contents, 1)
        ]
        self.sessions[session.id] = session
        return session

    async def add_event(self, task: task_pb2.Task, message: str = "a line", **fields: Any) -> event_pb2.Event:
        """An event of the task, after all others."""
        event = event_pb2.Event(
            stream_id=f"{int(time.time() * 1000)}-{next(self.numbers)}",
            id=new_id(),
            task_id=task.id,
            agent_id=task.agent_id,
            attempt=1,
            kind=fields.pop("kind", event_pb2.Event.KIND_LOG),
            level=fields.pop("level", event_pb2.Event.LEVEL_INFO),
            message=message,
            context=fields.pop("context", "{}"),
            timestamp=now(),
            **fields,
        )
        async with self.changed:
            self.events.append(event)
            self.changed.notify_all()
        return event

    async def end_task(
        self, task: task_pb2.Task, status: "task_pb2.Task.Status.ValueType" = task_pb2.Task.STATUS_COMPLETED
    ) -> None:
        """The task's end."""
        async with self.changed:
            task.status = status
            self.changed.notify_all()

    async def begin(self, rpc: str, context: Any) -> None:
        """Notes how long the call has, waits as long as was asked for, and raises what was asked for, once."""
        self.time_remaining[rpc] = context.time_remaining()
        await asyncio.sleep(self.delays.get(rpc, 0))
        if (failure := self.failures.pop(rpc, None)) is not None:
            raise failure


def page[T](items: Sequence[T], request: Any) -> tuple[list[T], str]:
    """The page that `request` names, and the next page's token."""
    try:
        start = int(request.page_token or 0)
    except ValueError:
        raise InvalidArgument(
            "The page token is none of ours.", fields=[FieldViolation(field="page_token", message="is no token")]
        ) from None
    end = start + request.page_size
    return list(items[start:end]), str(end) if end < len(items) else ""


def is_time_set(request: Any, name: str) -> bool:
    """Whether the message has the time `name`."""
    return bool(request.HasField(name))


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def _get(self, agent_id: str) -> agent_pb2.Agent:
        if agent_id not in self.state.agents:
            raise AgentNotFound(f"There is no agent {agent_id}.")
        return self.state.agents[agent_id]

    async def CreateAgent(self, request: Any, context: Any) -> Any:
        await self.state.begin("CreateAgent", context)
        agent = await self.state.add_agent(
            name=request.name, description=request.description, model_name=request.model_name
        )
        agent.config.CopyFrom(request.config)
        return agent_service_pb2.CreateAgentResponse(agent=agent)

    async def GetAgent(self, request: Any, context: Any) -> Any:
        await self.state.begin("GetAgent", context)
        return agent_service_pb2.GetAgentResponse(agent=self._get(request.id))

    async def ListAgents(self, request: Any, context: Any) -> Any:
        agents = [
            a
            for a in sorted(self.state.agents.values(), key=lambda a: a.id, reverse=True)
            if (not request.HasField("is_active") or a.is_active == request.is_active)
            and request.name.lower() in a.name.lower()
        ]
        items, token = page(agents, request)
        return agent_service_pb2.ListAgentsResponse(agents=items, next_page_token=token)

    async def UpdateAgent(self, request: Any, context: Any) -> Any:
        agent = self._get(request.id)
        agent.name, agent.description = request.name, request.description
        agent.model_name, agent.is_active = request.model_name, request.is_active
        agent.config.CopyFrom(request.config)
        agent.updated_at.CopyFrom(now())
        return agent_service_pb2.UpdateAgentResponse(agent=agent)

    async def DeleteAgent(self, request: Any, context: Any) -> Any:
        self._get(request.id).is_active = False
        return agent_service_pb2.DeleteAgentResponse()


class Tools(ToolRpc):
    """The real rules over rows in memory, and one kind of tool."""

    def __init__(self, state: State) -> None:
        self.state = state
        rows, kinds, none = Rows(state.agents), Kinds(EchoKind()), cast(Any, None)
        keys = SecretKeys((b"k" * 32,))
        host = ToolHost(settings=ToolSettings(), storage=none, inference=none)
        trials = ToolTrials(self, rows, kinds, keys, host)
        super().__init__(AgentTools(rows, kinds, keys), rows, kinds, trials, none)

    async def get(self, agent_id: str) -> Agent:
        """The agent, for trials."""
        if agent_id not in self.state.agents:
            raise AgentNotFound(f"There is no agent {agent_id}.")
        return from_message(self.state.agents[agent_id], Agent)

    async def TryTool(self, request: Any, context: Any) -> Any:
        await self.state.begin("TryTool", context)
        return await super().TryTool(request, context)


class Tasks(task_service_pb2_grpc.TaskServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def _get(self, task_id: str) -> task_pb2.Task:
        if task_id not in self.state.tasks:
            raise TaskNotFound(f"There is no task {task_id}.")
        return self.state.tasks[task_id]

    async def CreateTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("CreateTask", context)
        self.state.created.append(request)
        agent = self.state.agents.get(request.agent_id)
        if agent is None:
            raise AgentNotFound(f"There is no agent {request.agent_id}.")
        if not agent.is_active:
            raise AgentInactive(f"The agent {request.agent_id} was deleted.")
        known = self.state.keys.get(request.idempotency_key) if request.HasField("idempotency_key") else None
        if known is not None:
            if known[0] != request.SerializeToString(deterministic=True):
                raise IdempotencyConflict("The key came with another request before. Take a new one.")
            return task_service_pb2.CreateTaskResponse(task=self.state.tasks[known[1]], created=False)
        task = await self.state.add_task(agent_id=agent.id, status=task_pb2.Task.STATUS_PENDING)
        task.input = request.input
        task.attempt = 0
        if request.HasField("session_id"):
            task.session_id = request.session_id
        if request.HasField("user"):
            task.user = request.user
        if request.HasField("idempotency_key"):
            self.state.keys[request.idempotency_key] = (request.SerializeToString(deterministic=True), task.id)
        return task_service_pb2.CreateTaskResponse(task=task, created=True)

    async def GetTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("GetTask", context)
        return task_service_pb2.GetTaskResponse(task=self._get(request.id))

    async def ListTasks(self, request: Any, context: Any) -> Any:
        tasks = [
            t
            for t in sorted(self.state.tasks.values(), key=lambda t: t.id, reverse=True)
            if (not request.HasField("agent_id") or t.agent_id == request.agent_id)
            and (not request.statuses or t.status in request.statuses)
            and (not request.HasField("parent_task_id") or t.parent_task_id == request.parent_task_id)
            and (
                not is_time_set(request, "created_after")
                or t.created_at.ToNanoseconds() >= request.created_after.ToNanoseconds()
            )
            and (
                not is_time_set(request, "created_before")
                or t.created_at.ToNanoseconds() < request.created_before.ToNanoseconds()
            )
        ]
        items, token = page(tasks, request)
        return task_service_pb2.ListTasksResponse(tasks=items, next_page_token=token)

    async def CancelTask(self, request: Any, context: Any) -> Any:
        task = self._get(request.id)
        if task.status in FINAL:
            raise TaskFinished(f"The task {task.id} has ended.")
        task.cancel_requested = True
        if task.status == task_pb2.Task.STATUS_PENDING:
            await self.state.end_task(task, task_pb2.Task.STATUS_CANCELLED)
        return task_service_pb2.CancelTaskResponse(task=task)

    async def RetryTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("RetryTask", context)
        task = self._get(request.id)
        if task.status not in (task_pb2.Task.STATUS_FAILED, task_pb2.Task.STATUS_CANCELLED):
            raise TaskNotRetryable(f"The task {task.id} has not failed.")
        task.status = task_pb2.Task.STATUS_PENDING
        self.state.retries.append(request)
        return task_service_pb2.RetryTaskResponse(task=task)

    async def ResumeTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("ResumeTask", context)
        task = self._get(request.id)
        if task.status != task_pb2.Task.STATUS_WAITING:
            raise TaskNotWaiting(f"The task {task.id} does not wait.")
        self.state.answers.append(request)
        task.status = task_pb2.Task.STATUS_PENDING
        del task.pending[:]
        return task_service_pb2.ResumeTaskResponse(task=task)

    async def ListAttempts(self, request: Any, context: Any) -> Any:
        task = self._get(request.task_id)
        return task_service_pb2.ListAttemptsResponse(attempts=self.state.attempts.get(task.id, []))


class Histories(history_service_pb2_grpc.HistoryServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def _get(self, task_id: str) -> task_pb2.Task:
        if task_id not in self.state.tasks:
            raise TaskNotFound(f"There is no task {task_id}.")
        return self.state.tasks[task_id]

    async def ListCheckpoints(self, request: Any, context: Any) -> Any:
        await self.state.begin("ListCheckpoints", context)
        task = self._get(request.task_id)
        checkpoint = history_service_pb2.TaskCheckpoint(
            id="1", next=["generate"], attempt=1, created_at=task.created_at, state='{"n":[1.5,null]}'
        )
        items, token = page([checkpoint], request)
        return history_service_pb2.ListCheckpointsResponse(checkpoints=items, next_page_token=token)

    async def ForkTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("ForkTask", context)
        origin = self._get(request.task_id)
        self.state.forks.append(request)
        task = await self.state.add_task(
            agent_id=origin.agent_id, status=task_pb2.Task.STATUS_PENDING, forked_from_task_id=origin.id
        )
        return history_service_pb2.ForkTaskResponse(task=task)

    async def ReplayTask(self, request: Any, context: Any) -> Any:
        await self.state.begin("ReplayTask", context)
        origin = self._get(request.task_id)
        if origin.status not in (task_pb2.Task.STATUS_COMPLETED, task_pb2.Task.STATUS_FAILED):
            raise TaskNotReplayable(f"The task {origin.id} has not ended.")
        task = await self.state.add_task(
            agent_id=origin.agent_id, status=task_pb2.Task.STATUS_PENDING, replay_of_task_id=origin.id
        )
        return history_service_pb2.ReplayTaskResponse(task=task)


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def _get(self, session_id: str) -> session_pb2.Session:
        if session_id not in self.state.sessions:
            raise SessionNotFound(f"There is no session {session_id}.")
        return self.state.sessions[session_id]

    async def ListSessions(self, request: Any, context: Any) -> Any:
        sessions = [
            s
            for s in reversed(self.state.sessions.values())
            if not request.HasField("agent_id") or s.agent_id == request.agent_id
        ]
        items, token = page(sessions, request)
        return session_service_pb2.ListSessionsResponse(sessions=items, next_page_token=token)

    async def GetSession(self, request: Any, context: Any) -> Any:
        return session_service_pb2.GetSessionResponse(session=self._get(request.id))

    async def ListSessionTurns(self, request: Any, context: Any) -> Any:
        await self.state.begin("ListSessionTurns", context)
        items, token = page(self.state.turns[self._get(request.id).id], request)
        return session_service_pb2.ListSessionTurnsResponse(turns=items, next_page_token=token)

    async def RenameSession(self, request: Any, context: Any) -> Any:
        session = self._get(request.id)
        session.ClearField("title")
        if request.HasField("title"):
            session.title = request.title
        return session_service_pb2.RenameSessionResponse(session=session)

    async def ForkSession(self, request: Any, context: Any) -> Any:
        session = self._get(request.id)
        turns = self.state.turns[session.id]
        if request.HasField("until_turn"):
            if request.until_turn > len(turns):
                raise InvalidArgument(
                    "No such turn.", fields=[FieldViolation(field="until_turn", message="is not kept")]
                )
            turns = turns[: request.until_turn]
        title = {"title": request.title} if request.HasField("title") else {}
        fork = self.state.add_session(
            *(t.content for t in turns), agent_id=session.agent_id, forked_from=session.id, **title
        )
        return session_service_pb2.ForkSessionResponse(session=fork)

    async def DeleteSession(self, request: Any, context: Any) -> Any:
        session = self._get(request.id)
        if any(t.session_id == session.id and t.status not in FINAL for t in self.state.tasks.values()):
            raise SessionInUse("1 runs of the session have not ended.")
        del self.state.sessions[session.id]
        return session_service_pb2.DeleteSessionResponse()


class Memories(memory_service_pb2_grpc.MemoryServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    def _get(self, memory_id: str) -> memory_pb2.Memory:
        if memory_id not in self.state.memories:
            raise MemoryNotFound(f"There is no memory {memory_id}.")
        return self.state.memories[memory_id]

    def _of(self, agent_id: str) -> list[memory_pb2.Memory]:
        if agent_id not in self.state.agents:
            raise AgentNotFound(f"There is no agent {agent_id}.")
        return [m for m in reversed(self.state.memories.values()) if m.agent_id == agent_id]

    async def CreateMemory(self, request: Any, context: Any) -> Any:
        known = [m for m in self._of(request.agent_id) if m.content == request.content]
        if known:
            return memory_service_pb2.CreateMemoryResponse(memory=known[0])
        memory = memory_pb2.Memory(
            id=new_id(),
            agent_id=request.agent_id,
            scope=request.subject.scope,
            subject=request.subject.subject,
            content=request.content,
            importance=request.importance,
            source=memory_pb2.Memory.SOURCE_API,
            created_at=now(),
            updated_at=now(),
        )
        if request.HasField("topic"):
            memory.topic = request.topic
        self.state.memories[memory.id] = memory
        return memory_service_pb2.CreateMemoryResponse(memory=memory, created=True)

    async def GetMemory(self, request: Any, context: Any) -> Any:
        return memory_service_pb2.GetMemoryResponse(memory=self._get(request.id))

    async def ListMemories(self, request: Any, context: Any) -> Any:
        found = [
            m
            for m in self._of(request.agent_id)
            if (not request.HasField("scope") or m.scope == request.scope)
            and (not request.HasField("subject") or m.subject == request.subject)
            and request.contains.lower() in m.content.lower()
            and (request.include_superseded or not m.HasField("superseded_at"))
        ]
        items, token = page(found, request)
        return memory_service_pb2.ListMemoriesResponse(memories=items, next_page_token=token)

    async def UpdateMemory(self, request: Any, context: Any) -> Any:
        memory = self._get(request.id)
        for name in ("content", "topic", "importance"):
            if request.HasField(name):
                setattr(memory, name, getattr(request, name))
        if not memory.topic:
            memory.ClearField("topic")
        return memory_service_pb2.UpdateMemoryResponse(memory=memory)

    async def DeleteMemory(self, request: Any, context: Any) -> Any:
        del self.state.memories[self._get(request.id).id]
        return memory_service_pb2.DeleteMemoryResponse()

    async def ForgetMemories(self, request: Any, context: Any) -> Any:
        gone = [
            m
            for m in self._of(request.agent_id)
            if (m.scope, m.subject) == (request.subject.scope, request.subject.subject)
        ]
        for memory in gone:
            del self.state.memories[memory.id]
        return memory_service_pb2.ForgetMemoriesResponse(forgotten_count=len(gone))

    async def SearchMemories(self, request: Any, context: Any) -> Any:
        subjects = [(s.scope, s.subject) for s in request.subjects]
        found = [m for m in self._of(request.agent_id) if (m.scope, m.subject) in subjects][: request.limit]
        return memory_service_pb2.SearchMemoriesResponse(
            memories=[memory_pb2.RecalledMemory(memory=m, similarity=0.9, score=0.9) for m in found]
        )


def matches(event: event_pb2.Event, wanted: log_service_pb2.EventFilter) -> bool:
    """Whether the event passes the filter."""
    context = json.loads(event.context)
    at = event.timestamp.ToNanoseconds()
    return (
        (not wanted.task_ids or event.task_id in wanted.task_ids)
        and (not wanted.agent_ids or event.agent_id in wanted.agent_ids)
        and (not wanted.levels or event.level in wanted.levels)
        and (not wanted.kinds or event.kind in wanted.kinds)
        and wanted.contains.lower() in event.message.lower()
        and (not wanted.HasField("since") or at >= wanted.since.ToNanoseconds())
        and (not wanted.HasField("until") or at < wanted.until.ToNanoseconds())
        and all(str(context.get(name)) == value for name, value in wanted.context.items())
    )


class Logs(log_service_pb2_grpc.LogServiceServicer):
    def __init__(self, state: State) -> None:
        self.state = state

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        state = self.state
        state.streams_opened += 1
        await state.begin("StreamEvents", context)
        task = state.tasks.get(request.filter.task_ids[0]) if request.until_end else None
        if request.until_end and task is None:
            raise TaskNotFound(f"There is no task {request.filter.task_ids[0]}.")
        if request.HasField("after_stream_id"):
            place = StreamId.parse(request.after_stream_id)
        elif request.until_end or not state.events:
            place = StreamId(0, 0)
        else:
            place = StreamId.parse(state.events[-1].stream_id)
        state.open_streams += 1
        try:
            yield log_service_pb2.StreamEventsResponse(heartbeat=log_service_pb2.StreamEventsResponse.Heartbeat())
            while True:
                async with state.changed:
                    events = [e for e in state.events if StreamId.parse(e.stream_id) > place]
                    ended = task is not None and task.status in FINAL
                    if not events and not ended:
                        await state.changed.wait()
                        continue
                if events:
                    place = StreamId.parse(events[-1].stream_id)
                wanted = [event for event in events if matches(event, request.filter)]
                if wanted:
                    batch = log_service_pb2.StreamEventsResponse.Events(events=wanted)
                    yield log_service_pb2.StreamEventsResponse(events=batch)
                if ended and task is not None:
                    status = task_pb2.Task.Status.Name(task.status).removeprefix("STATUS_").lower()
                    end = log_service_pb2.StreamEventsResponse.End(status=status)
                    yield log_service_pb2.StreamEventsResponse(end=end)
                    return
        finally:
            state.open_streams -= 1

    async def ListEvents(self, request: Any, context: Any) -> Any:
        await self.state.begin("ListEvents", context)
        events = [e for e in self.state.events if matches(e, request.filter) and e.kind != event_pb2.Event.KIND_DELTA]
        items, token = page(events[::-1] if request.descending else events, request)
        return log_service_pb2.ListEventsResponse(events=items, next_page_token=token)

    async def GetSubscription(self, request: Any, context: Any) -> Any:
        if request.name not in self.state.subscriptions:
            raise SubscriptionNotFound(f"There is no subscription {request.name}.")
        return log_service_pb2.GetSubscriptionResponse(subscription=self.state.subscriptions[request.name])

    async def SaveSubscription(self, request: Any, context: Any) -> Any:
        self.state.saves.append(request)
        stored = self.state.subscriptions.setdefault(
            request.name, log_service_pb2.Subscription(id=new_id(), name=request.name, created_at=now())
        )
        if request.HasField("filter"):
            stored.filter.CopyFrom(request.filter)
        if request.HasField("last_seen_stream_id"):
            stored.last_seen_stream_id = request.last_seen_stream_id
        return log_service_pb2.SaveSubscriptionResponse(subscription=stored)


class Inference(inference_service_pb2_grpc.InferenceServiceServicer):
    async def Chat(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise Unimplemented
        yield

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise Unimplemented
        yield

    async def Embed(self, request: Any, context: Any) -> Any:
        raise Unimplemented

    async def ListModels(self, request: Any, context: Any) -> Any:
        return inference_service_pb2.ListModelsResponse(
            models=[
                inference_service_pb2.Model(
                    name="smollm2:135m", capabilities=["completion"], parameter_size="135M", hosts=["http://one"]
                )
            ],
            hosts=[
                inference_service_pb2.ModelHost(name="http://one", reachable=True, version="1"),
                inference_service_pb2.ModelHost(
                    name="http://two",
                    reachable=False,
                    error="refused",
                    breaker=inference_service_pb2.Breaker(
                        state=inference_service_pb2.Breaker.STATE_OPEN,
                        reason="refused",
                        since_time=Timestamp(seconds=1_800_000_000),
                        next_probe_time=Timestamp(seconds=1_800_000_005),
                    ),
                ),
            ],
        )


class Probe:
    """A dependency that a test can break."""

    def __init__(self, name: str, *, required: bool = True) -> None:
        self.healthy = True
        self.dependency = Dependency(name=name, probe=self._probe, advice=f"Start {name}.", required=required)

    async def _probe(self) -> str:
        if not self.healthy:
            raise HearthError(self.dependency.advice)
        return "fine"


class Service:
    """One service's server, on the same socket each time that it is started."""

    def __init__(
        self, folder: Path, name: str, parts: Sequence[tuple[Callable[..., None], object, ModuleType]], *probes: Probe
    ) -> None:
        self.address = f"unix:{folder}/{name}"
        self.probes = {p.dependency.name: p for p in probes}
        self._parts = parts
        self._running: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Serves from now on."""
        settings = RuntimeSettings(listen_address=self.address, grace_seconds=0.1)
        server = Server(settings, dependencies=[p.dependency for p in self.probes.values()])
        for add, servicer, module in self._parts:
            server.register(add, servicer, module)
        self._stopping = asyncio.Event()
        self._running = asyncio.create_task(server.run(self._stopping))
        quickly = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
        while not Path(self.address.removeprefix("unix:")).exists():  # noqa: ASYNC240 - a local socket
            await asyncio.sleep(0.005)
        async with grpc.aio.insecure_channel(self.address, quickly) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)

    async def stop(self) -> None:
        """Is away from now on; its streams are cut off."""
        self._stopping.set()
        if self._running is not None:
            await self._running
        self._running = None


class Services:
    """All of them."""

    def __init__(self) -> None:
        self.state = State()
        self.documents = Documents(self.state)
        self.key_rows = KeyRows()
        # With the real rules.
        self.keys = Keys(cast(Any, self.key_rows))
        self._folder = Path(tempfile.mkdtemp(prefix="h"))
        self.agent = Service(
            self._folder,
            "agent",
            [
                (agent_service_pb2_grpc.add_AgentServiceServicer_to_server, Agents(self.state), agent_service_pb2),
                (
                    document_service_pb2_grpc.add_DocumentServiceServicer_to_server,
                    self.documents,
                    document_service_pb2,
                ),
                (
                    key_service_pb2_grpc.add_KeyServiceServicer_to_server,
                    KeyRpc(self.keys, cast(Any, self.key_rows)),
                    key_service_pb2,
                ),
                (task_service_pb2_grpc.add_TaskServiceServicer_to_server, Tasks(self.state), task_service_pb2),
                (
                    memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
                    Memories(self.state),
                    memory_service_pb2,
                ),
                (
                    history_service_pb2_grpc.add_HistoryServiceServicer_to_server,
                    Histories(self.state),
                    history_service_pb2,
                ),
                (
                    session_service_pb2_grpc.add_SessionServiceServicer_to_server,
                    Sessions(self.state),
                    session_service_pb2,
                ),
                (add_ToolServiceServicer_to_server, Tools(self.state), tool_service_pb2),
            ],
            Probe("redis", required=False),
            Probe("workers", required=False),
        )
        self.log = Service(
            self._folder,
            "log",
            [(log_service_pb2_grpc.add_LogServiceServicer_to_server, Logs(self.state), log_service_pb2)],
            Probe("redis"),
        )
        self.inference = Service(
            self._folder,
            "inference",
            [
                (
                    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server,
                    Inference(),
                    inference_service_pb2,
                )
            ],
            Probe("ollama", required=False),
        )
        self.storage = Service(self._folder, "storage", [], Probe("postgresql"))

    @property
    def all(self) -> tuple[Service, ...]:
        """Each of them."""
        return self.agent, self.log, self.inference, self.storage

    async def __aenter__(self) -> "Services":
        for service in self.all:
            await service.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for service in self.all:
            await service.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
