"""One attempt of a task: its work, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hearth_runtime.errors import (
    AttemptOutdated,
    HearthError,
    RunTimeout,
)
from hearth_runtime.events import EventLevel
from hearth_runtime.tasks import DOCUMENTS, Task, Turn
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from loguru import logger
from prometheus_client import Counter, Histogram

from agent_service.agents import DEFAULT_TIMEOUT_SECONDS
from agent_service.attempt_spans import note_outcome
from agent_service.bell import Bell
from agent_service.budgets import tightest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.checkpointer import Checkpointer
from agent_service.client_tools import client_tools
from agent_service.history_store import StoredHistories
from agent_service.inference import Models
from agent_service.leases import Interruption, Leases
from agent_service.model_calls import ModelCalls
from agent_service.prompt import TokenEstimates
from agent_service.publisher import EventPublisher, RunEvents
from agent_service.recording import Live, Recording
from agent_service.recordings import recording_of
from agent_service.request_store import StoredRequests
from agent_service.requests import RunWaits
from agent_service.run_ends import RunEnds
from agent_service.run_memory import remembering
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredTasks
from agent_service.summaries import Summaries, recalled
from agent_service.task_requests import KeptRequests, TaskRequests
from agent_service.tasks import BUDGET, Claim, Wanted, turns_of
from agent_service.tool import Tool, ToolHost, ToolScope
from agent_service.tool_calls import ToolCalls
from agent_service.toolbox import Toolbox, ToolShelf
from agent_service.usage import count_attempt
from agent_service.workflow import RunContext
from agent_service.workflows import Workflows

ATTEMPTS = Counter("hearth_attempts_total", "Attempts that ended, by outcome", ["outcome"])
ATTEMPT_SECONDS = Histogram(
    "hearth_attempt_seconds", "Time of an attempt", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
)
QUEUED_SECONDS = Histogram(
    "hearth_task_queued_seconds",
    "Time from when a task could run to when it did",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


class Run:
    """Runs a claimed task to its end, or to where somebody else takes over."""

    def __init__(
        self,
        claim: Claim,
        *,
        worker_id: str,
        store: StoredTasks,
        leases: Leases,
        requests: StoredRequests,
        checkpoints: StoredCheckpoints,
        histories: StoredHistories,
        models: Models,
        estimates: TokenEstimates,
        shelf: ToolShelf,
        workflows: Workflows,
        host: ToolHost,
        publisher: EventPublisher,
        bell: Bell,
        summaries: Summaries,
        settings: WorkerSettings,
        next_wanted: Callable[[], Wanted | None] = lambda: None,
        run_next: Callable[[Claim], None] = lambda _: None,
    ) -> None:
        """As the task ends `next_wanted` is asked what to claim with that, and `run_next` is given what was."""
        self._claim = claim
        self._task = claim.task
        budget = tightest(claim.agent.config.budget, claim.task.input.get(BUDGET, {}))
        self._agent = replace(claim.agent, config=replace(claim.agent.config, budget=budget))
        self._worker_id = worker_id
        self._store = store
        self._leases = leases
        self._requests = TaskRequests(requests, bell, claim.task)
        self._checkpoints = checkpoints
        self._checkpointer = Checkpointer(
            checkpoints, attempt=self._task.attempt, is_new=self._task.is_new, holds_last=True
        )
        self._histories = histories
        self._models = models
        self._estimates = estimates
        self._shelf = shelf
        self._workflows = workflows
        self._host = host
        self._settings = settings
        self._events = RunEvents(
            publisher,
            task_id=self._task.id,
            agent_id=self._task.agent_id,
            attempt=self._task.attempt,
            traceparent=claim.traceparent,
            root_task_id=self._task.root_task_id,
            owner=self._task.owner,
        )
        self._ends = RunEnds(
            claim,
            self._agent,
            store=store,
            requests=requests,
            events=self._events,
            publisher=publisher,
            bell=bell,
            summaries=summaries,
            settings=settings,
            next_wanted=next_wanted,
            run_next=run_next,
        )
        self._recording: Recording = Live(self._journal())
        self._control = RunControl()
        self._work: asyncio.Task[dict[str, Any]] | None = None
        self._interruption: Interruption | None = None

    @property
    def task(self) -> Task:
        """The task, as it was claimed."""
        return self._task

    @property
    def queue(self) -> str:
        """The queue that the task was in."""
        return self._task.queue

    def interrupt(self, reason: Interruption) -> None:
        """Ends the work, to be handed over when its step is finished or half of `grace_seconds` is over, otherwise now.
        The first reason counts."""
        if self._interruption is None:
            self._interruption = reason
        if reason is Interruption.HAND_OVER:
            self._control.request_drain()
            asyncio.get_running_loop().call_later(self._settings.grace_seconds * 0.5, self._cancel_work)
        else:
            self._cancel_work()

    def _cancel_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def execute(self) -> None:
        """Runs the attempt. Raises nothing but what is a mistake of ours."""
        QUEUED_SECONDS.observe(self._claim.queued.total_seconds())
        self._work = asyncio.create_task(self._attempt())
        if self._interruption not in (None, Interruption.HAND_OVER):
            self._work.cancel()
        try:
            with self._leases.held(self), ATTEMPT_SECONDS.time():
                outcome = await self._outcome()
            ATTEMPTS.labels(outcome).inc()
            count_attempt(self._agent, outcome)
            note_outcome(outcome)
            logger.info("attempt ended", attempt=self._task.attempt, outcome=outcome)
        except AttemptOutdated:
            ATTEMPTS.labels("outdated").inc()
            count_attempt(self._agent, "outdated")
            note_outcome("outdated")
            logger.warning("another attempt has taken over", attempt=self._task.attempt)
        finally:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _outcome(self) -> str:
        assert self._work is not None
        try:
            output = await self._work
        except (asyncio.CancelledError, GraphDrained):
            if self._interruption is None:
                raise
            return await self._end_interrupted(self._interruption)
        except AttemptOutdated:
            raise
        except RunWaits as waits:
            return await self._ends.waiting(waits.pendings)
        except HearthError as error:
            return await self._ends.failed(error)
        except Exception as error:  # noqa: BLE001 - the border of a run: a mistake in a workflow fails its task alone
            logger.opt(exception=error).error("a workflow failed unexpectedly")
            return await self._ends.failed(HearthError("The run failed unexpectedly; the worker's log says why."))
        try:
            return await self._ends.completed(output, asked=self._input_turns(), checkpointer=self._checkpointer)
        except AttemptOutdated:
            raise
        except HearthError as error:  # it is no output that can be kept
            return await self._ends.failed(error)

    async def _end_interrupted(self, reason: Interruption) -> str:
        match reason:
            case Interruption.CANCEL:
                return await self._ends.cancelled()
            case Interruption.HAND_OVER:
                return await self._ends.handed_over()
            case Interruption.OUTDATED:
                raise AttemptOutdated

    async def _attempt(self) -> dict[str, Any]:
        agent = self._agent
        timeout_seconds = agent.config.timeout_seconds or DEFAULT_TIMEOUT_SECONDS
        conversation = (
            *recalled(self._claim.session_summary),
            *self._claim.session_turns,
            *self._input_turns(),
        )
        await self._events.status("running", "running", attempt=self._task.attempt, worker=self._worker_id)
        self._recording = await recording_of(
            self._claim, journal=self._journal(), store=self._store, histories=self._histories
        )
        workflow = self._workflows.get(agent.config.workflow)
        context = RunContext(
            task=self._task,
            agent=agent,
            conversation=conversation,
            model_calls=ModelCalls(
                self._models,
                agent,
                self._events,
                estimates=self._estimates,
                embedding_model=self._settings.embedding_model,
                timeout_seconds=timeout_seconds,
                recording=self._recording,
            ),
            host=self._host,
            events=self._events,
            recording=self._recording,
            tool_calls=self._journal(self._recording),
            toolbox=self._toolbox([]),
            open_tools=self._open_tools,
            checkpointer=self._checkpointer,
            control=self._control,
            record_resume=lambda step: self._store.record_resume(self._task, step),
            requests=KeptRequests(self._requests, self._journal(self._recording)),
        )
        try:
            async with asyncio.timeout(timeout_seconds) as limit:
                return await self._recording.output_of(remembering(workflow, context, limit=limit))
        except TimeoutError as error:
            advice = "Raise config.timeout_seconds, or ask for less."
            raise RunTimeout(f"The run took longer than its {timeout_seconds:g} seconds. {advice}") from error

    @asynccontextmanager
    async def _open_tools(self) -> AsyncIterator[Toolbox]:
        scope = ToolScope(
            agent=self._agent,
            session_id=self._task.session_id,
            task_id=self._task.id,
            requests=self._requests,
            user=self._task.user,
            warn=self._warn,
        )
        async with self._recording.tools(self._tools(scope)) as tools:
            yield self._toolbox(tools)

    @asynccontextmanager
    async def _tools(self, scope: ToolScope) -> AsyncIterator[Sequence[Tool]]:
        """The agent's tools, and those of the client."""
        async with self._shelf.opened(scope) as tools:
            yield [*tools, *client_tools(self._task, self._agent, self._requests)]

    async def _warn(self, message: str, code: str) -> None:
        await self._events.log(EventLevel.WARNING, message, code=code)

    def _toolbox(self, tools: Sequence[Tool]) -> Toolbox:
        return Toolbox(
            tools,
            tool_calls=self._journal(self._recording),
            events=self._events,
            requests=self._requests,
            approval_timeout_seconds=self._agent.config.approval_timeout_seconds,
        )

    def _journal(self, answers: Recording | None = None) -> ToolCalls:
        return ToolCalls(self._checkpoints, task_id=self._task.id, attempt=self._task.attempt, answers=answers)

    def _input_turns(self) -> tuple[Turn, ...]:
        # Nobody talks to what reads documents.
        return () if self.queue == DOCUMENTS else turns_of(self._task.input)
