"""What a run does: a small graph of steps, behind one interface.

A workflow is given the conversation and answers with the output; whatever it shows meanwhile goes out as events.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import orjson
from hearth_runtime.agents import Agent
from hearth_runtime.errors import HearthError
from hearth_runtime.tasks import Pending, Task, Turn
from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.runtime import RunControl, Runtime

from agent_service.attached import images_of
from agent_service.attempt_spans import step_span
from agent_service.budgets import Spent
from agent_service.checkpointer import Checkpointer
from agent_service.model_calls import ModelCalls
from agent_service.prompt import Prompt
from agent_service.publisher import RunEvents
from agent_service.recording import Recording
from agent_service.requests import Requests, RunWaits
from agent_service.tool import ToolHost
from agent_service.tool_calls import ToolCalls
from agent_service.toolbox import Toolbox

# What a run resumes at whose steps are all finished.
END_STEP = "end"
RECURSION_LIMIT = 100_000

type Changes = dict[str, Any]
type Action = Callable[[Any, RunContext], Awaitable[Changes]]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the steps of one attempt work with."""

    task: Task
    agent: Agent
    conversation: tuple[Turn, ...]  # the session's earlier turns, then the input's
    model_calls: ModelCalls
    toolbox: Toolbox  # empty but in a ToolWorkflow
    open_tools: Callable[[], AbstractAsyncContextManager[Toolbox]]
    host: ToolHost
    events: RunEvents
    recording: Recording
    tool_calls: ToolCalls
    checkpointer: Checkpointer
    control: RunControl  # asks for an end between two steps
    record_resume: Callable[[str], Awaitable[None]]
    requests: Requests
    waits: list[Pending] = field(default_factory=list)  # what the steps of this attempt wait for

    def prompt(self) -> Prompt:
        """The agent's system prompt and the conversation."""
        prompt = Prompt.of(self.agent.config.system_prompt, self.conversation)
        return prompt.with_images(images_of(self.task.input))


class Workflow(Protocol):
    """A way to run an agent."""

    async def run(self, context: RunContext) -> dict[str, Any]:
        """The task's output: {"text", "data", "usage", "model"}. Raises HearthError; GraphDrained where `control` asked
        for it, RunWaits where somebody must answer first; may be cancelled at any await."""
        ...


class GraphWorkflow:
    """A graph whose state ends with the task's output under "output". What a step has finished is kept, and an attempt
    after the first goes on where the one before it was."""

    def __init__(self, graph: StateGraph[Any, RunContext, Any, Any]) -> None:
        self._graph = graph.compile()

    async def run(self, context: RunContext) -> dict[str, Any]:
        graph = self._graph.copy({"checkpointer": context.checkpointer})
        # What bounds a run is its budget, not the number of steps that a graph of LangGraph's may take by default.
        config: RunnableConfig = {"configurable": {"thread_id": context.task.id}, "recursion_limit": RECURSION_LIMIT}
        entry: dict[str, Any] | None = {}
        state: dict[str, Any] = {}
        finished: list[tuple[str, dict[str, Any]]] = []
        if not context.task.is_new:
            saved = await graph.aget_state(config)
            if saved.metadata is not None:
                entry, state = None, saved.values  # None is LangGraph's word for going on
                # Those that were done beside one that was not are not made again, nor told of by LangGraph.
                finished = [(done.name, _took(done.result)) for done in saved.tasks if done.name not in saved.next]
                await self._resume(context, saved.next)
        chunks: AsyncIterator[Any] = graph.astream(
            entry,
            config,
            context=context,
            stream_mode=["tasks", "values"],
            durability="sync",
            control=context.control,
        )
        try:
            async for mode, chunk in chunks:
                if mode == "tasks" and "result" in chunk and not chunk["error"]:
                    finished.append((chunk["name"], _took(chunk["result"])))
                elif mode == "values":
                    # Once what the steps gave is kept no attempt makes them again.
                    state = chunk
                    for name, took in finished:
                        await context.checkpointer.when_kept(partial(context.events.step, name, "finished", **took))
                    finished.clear()
        except RunWaits as waits:
            # Where it goes on after the answers, and what there is to fork meanwhile.
            await context.checkpointer.keep_held()
            # It is that of one step; others beside it may wait as well.
            raise RunWaits(*(context.waits or waits.pendings)) from None
        output: dict[str, Any] = state["output"]
        return output

    async def _resume(self, context: RunContext, steps: Sequence[str]) -> None:
        name = ", ".join(steps) or END_STEP
        await context.events.step(name, "resumed")
        await context.record_resume(name)


class ToolWorkflow(GraphWorkflow):
    """A graph whose steps call the agent's tools: `context.toolbox` has them, open for the attempt."""

    async def run(self, context: RunContext) -> dict[str, Any]:
        async with context.open_tools() as toolbox:
            return await super().run(replace(context, toolbox=toolbox))


def step(name: str, action: Action) -> Any:
    """The node `name` of a graph: says that it begins, and does `action`, which is given the state and gives what
    changes in it. It is finished once Redis has its events; the time that it took is added to what it `spent`."""

    async def node(state: Mapping[str, Any], runtime: Runtime[RunContext]) -> Changes:
        events = runtime.context.events
        await events.step(name, "started")
        began = time.monotonic()
        try:
            with step_span(name):
                changes = await action(state, runtime.context)
        except RunWaits as waits:
            runtime.context.waits.extend(waits.pendings)
            raise
        if "spent" in changes:
            seconds = runtime.context.recording.step_seconds(name)
            if seconds is None:
                changes["spent"] += Spent(seconds=time.monotonic() - began)
            else:
                changes["spent"] = replace(changes["spent"], seconds=seconds)
        await events.flush()
        return changes

    return node


def _took(result: Any) -> dict[str, Any]:
    """The time that a step took, where it says so: a replay is given the same."""
    spent = result.get("spent") if isinstance(result, dict) else None
    return {"seconds": spent.seconds} if isinstance(spent, Spent) else {}


def checked(output: dict[str, Any]) -> dict[str, Any]:
    """The output of a workflow, where it is one. Raises HearthError: the mistake is in the workflow."""
    if not isinstance(output, dict) or not isinstance(output.get("text"), str):
        raise HearthError('The workflow gave no output with a "text".')
    try:
        orjson.dumps(output)
    except orjson.JSONEncodeError as error:
        raise HearthError(f"The workflow's output is no JSON: {error}.") from error
    return output


def ended(output: dict[str, Any], spent: Spent, ended_by: str | None = None) -> dict[str, Any]:
    """The last answer's output as the run's: with what the whole run took, and the limit that ended it, if one did."""
    usage = {
        **output["usage"],
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "model_calls": spent.model_calls,
        "tool_calls": spent.tool_calls,
    }
    return {**output, "usage": usage, **({} if ended_by is None else {"ended_by": ended_by})}
