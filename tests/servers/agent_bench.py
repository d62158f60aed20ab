"""Attempts of tasks against real storage and Redis, with workflows made for the occasion."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

from agent_service.agent_tools import AgentTool
from agent_service.bell import Bell, broker_of
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.history_store import StoredHistories
from agent_service.inference import Models
from agent_service.leases import Interruption, Leases
from agent_service.opened_tools import open_tools
from agent_service.prompt import TokenEstimates
from agent_service.publisher import EventPublisher
from agent_service.request_store import StoredRequests
from agent_service.runs import Run
from agent_service.session_store import StoredSessions
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredAgents, StoredTasks
from agent_service.summaries import Summaries
from agent_service.tasks import Claim, Wanted
from agent_service.team import members
from agent_service.tool import Tool, ToolHost, ToolScope
from agent_service.tool_kinds import ToolKinds
from agent_service.toolbox import ToolShelf
from agent_service.workflow import RunContext, Workflow
from agent_service.workflows import Workflows
from hearth.log.v1 import event_pb2
from hearth.storage.v1 import event_store_pb2
from hearth_runtime.codec import to_message
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind
from hearth_runtime.tasks import RUNS
from redis.asyncio import Redis

OUTPUT: dict[str, Any] = {"text": "done", "data": None, "usage": {}, "model": "m"}

type Work = Callable[[RunContext], Awaitable[dict[str, Any]]]


class Working:
    """A workflow that does what it was made with."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.started = asyncio.Event()

    async def run(self, context: RunContext) -> dict[str, Any]:
        self.started.set()
        return await self._work(context)


class Installed(Workflows):
    """One workflow, whatever it is called."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    def get(self, name: str | None) -> Workflow:
        return self._workflow


class Shelf(ToolShelf):
    """These tools, whoever asks, those of the rows, and the agents that it may hand tasks to."""

    def __init__(self, tools: Sequence[Tool], agents: StoredAgents, rows: Sequence[AgentTool], host: ToolHost) -> None:
        self._tools = tools
        self._agents = agents
        self._rows = rows
        self._host = host

    @asynccontextmanager
    async def opened(self, scope: ToolScope) -> AsyncIterator[list[Tool]]:
        assert scope.requests is not None
        config = scope.agent.config
        async with AsyncExitStack() as stack:
            tools = list(self._tools)
            for row in self._rows:
                tools += await stack.enter_async_context(open_tools(row, ToolKinds(), scope, self._host))
            yield [*tools, *await members(config.agents, self._agents, scope.requests, config.budget)]


class Bench:
    """Makes tasks, and runs of them. `storage` is the fixture."""

    def __init__(
        self, storage: Any, redis: Redis, bell: Bell, publisher: EventPublisher, settings: WorkerSettings
    ) -> None:
        self.bell = bell
        self.storage = storage
        self._redis = redis
        self.stored = StoredTasks(storage.channel)
        self.leases = Leases(self.stored, settings)
        self.requests = StoredRequests(storage.channel)
        self.models = Models(storage.channel)  # where no test has others, there is nobody to answer
        self.summaries = Summaries(StoredSessions(storage.channel), self.models, TokenEstimates())
        self.tools: Sequence[Tool] = ()
        self.rows: Sequence[AgentTool] = ()
        self.inference: Any = storage.channel
        self._publisher = publisher
        self._settings = settings

    async def run_task(
        self, task_id: str, workflow: Workflow, *, queue: str = RUNS
    ) -> tuple[Run, "asyncio.Task[Claim | None]"]:
        """Claims the task, which waits, and runs an attempt at it."""
        await self.storage.put_first(task_id)
        lease = timedelta(seconds=self._settings.lease_seconds)
        claim = await self.stored.claim(Wanted(worker_id="w", lease=lease, queue=queue))
        assert claim.task.id == task_id
        host = ToolHost(settings=self._settings, storage=self.storage.channel, inference=self.inference)
        run = Run(
            claim,
            worker_id="w",
            store=self.stored,
            leases=self.leases,
            requests=self.requests,
            checkpoints=StoredCheckpoints(self.storage.channel),
            histories=StoredHistories(self.storage.channel),
            models=self.models,
            estimates=TokenEstimates(),
            shelf=Shelf(self.tools, StoredAgents(self.storage.channel), self.rows, host),
            workflows=Installed(workflow),
            host=host,
            publisher=self._publisher,
            bell=self.bell,
            summaries=self.summaries,
            settings=self._settings,
        )
        return run, asyncio.create_task(run.execute())

    async def start(self, work: Work) -> tuple[str, Run, "asyncio.Task[Claim | None]"]:
        """A new task whose run has begun with `work`."""
        task_id = await self.storage.new_task()
        workflow = Working(work)
        run, running = await self.run_task(task_id, workflow)
        async with asyncio.timeout(5):
            await workflow.started.wait()
        return task_id, run, running

    async def due_now(self, task_id: str) -> None:
        """Ends the task's backoff, as the dispatcher does in its time."""
        await self.storage.sql("UPDATE tasks SET next_attempt_at = now() WHERE id = $1", task_id)
        await self.stored.take_due(limit=100, ring_again_after=timedelta(hours=1), delivered_before=None)

    def hand_over(self, run: Run) -> None:
        """Tells the run that its worker stops."""
        run.interrupt(Interruption.HAND_OVER)

    async def statuses(self, task_id: str) -> list[str]:
        """What the status events said."""
        return [e.context["status"] for e in await self.events(task_id) if e.kind is EventKind.STATUS]

    async def steps(self, task_id: str) -> list[tuple[int, str, str]]:
        """What the step events said: attempt, step and phase."""
        found = await self.events(task_id)
        return [(e.attempt, e.context["step"], e.context["phase"]) for e in found if e.kind is EventKind.STEP]

    async def messages(self, task_id: str) -> list[tuple[str | None, str]]:
        """What the model said: the call, and its text; internal ones and others."""
        found = await self.events(task_id)
        return [(e.context.get("call"), e.message) for e in found if e.kind is EventKind.MESSAGE]

    async def keep_events(self, task_id: str) -> None:
        """Keeps the task's events, as log-service does in its time."""
        await self._publisher.flush()
        entries: Any = await self._redis.xrange(EVENTS_STREAM)
        events = [Event.decode(fields[EVENT_FIELD], stream_id=place.decode()) for place, fields in entries]
        kept = [e for e in events if e.task_id == task_id and e.kind is not EventKind.DELTA]
        messages = [to_message(event, event_pb2.Event) for event in kept]
        await self.storage.events.AppendEvents(event_store_pb2.AppendEventsRequest(events=messages))

    async def events(self, task_id: str) -> list[Event]:
        await self._publisher.flush()
        entries: Any = await self._redis.xrange(EVENTS_STREAM)
        events = [Event.decode(fields[EVENT_FIELD], stream_id="") for _, fields in entries]
        return [e for e in events if e.task_id == task_id]


@asynccontextmanager
async def bench_with(storage: Any, redis: Redis, settings: WorkerSettings) -> AsyncIterator[Bench]:
    """A bench of these settings."""
    publisher = EventPublisher(redis, limit=100)
    broker = broker_of(settings)
    await broker.connect()
    bench = Bench(storage, redis, Bell(broker, redis), publisher, settings)
    background = [asyncio.create_task(each) for each in (publisher.run(), bench.leases.run())]
    yield bench
    await broker.stop()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
