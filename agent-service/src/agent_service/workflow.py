"""What a run does: a small graph of steps, behind one interface.

A workflow is given the conversation and answers with the output; whatever it shows meanwhile goes out as events.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import orjson
from hearth_runtime.agents import Agent
from hearth_runtime.errors import ModelOutputInvalid
from hearth_runtime.events import EventKind, EventLevel
from hearth_runtime.tasks import Task, Turn
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import RunControl, Runtime

from agent_service.checkpointer import Checkpointer
from agent_service.inference import Done, Models, Notice
from agent_service.publisher import RunEvents
from agent_service.tool_calls import ToolCalls

# What a run resumes at whose steps are all finished.
END_STEP = "end"


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the steps of one attempt work with."""

    task: Task
    agent: Agent
    conversation: tuple[Turn, ...]  # the session's earlier turns, then the input's
    models: Models
    events: RunEvents
    tool_calls: ToolCalls
    checkpointer: Checkpointer
    control: RunControl  # asks for an end between two steps
    record_resume: Callable[[str], Awaitable[None]]
    timeout_seconds: float


class Workflow(Protocol):
    """A way to run an agent."""

    async def run(self, context: RunContext) -> dict[str, Any]:
        """The task's output: {"text", "data", "usage", "model"}. Raises HearthError; GraphDrained where `control` asked
        for it; may be cancelled at any await."""
        ...


class GraphWorkflow:
    """A graph whose state ends with the task's output under "output". What a step has finished is kept, and an attempt
    after the first goes on where the one before it was."""

    def __init__(self, graph: StateGraph[Any, RunContext, Any, Any]) -> None:
        self._graph = graph.compile()

    async def run(self, context: RunContext) -> dict[str, Any]:
        graph = self._graph.copy({"checkpointer": context.checkpointer})
        config: RunnableConfig = {"configurable": {"thread_id": context.task.id}}
        entry: dict[str, Any] | None = {}
        state: dict[str, Any] = {}
        if context.task.attempt > 1:
            saved = await graph.aget_state(config)
            if saved.metadata is not None:
                entry, state = None, saved.values  # None is LangGraph's word for going on
                await self._resume(context, saved.next)
        finished: list[str] = []
        chunks: AsyncIterator[Any] = graph.astream(
            entry,
            config,
            context=context,
            stream_mode=["tasks", "values"],
            durability="sync",
            control=context.control,
        )
        async for mode, chunk in chunks:
            if mode == "tasks" and "result" in chunk and not chunk["error"]:
                finished.append(chunk["name"])
            elif mode == "values":
                # Comes when what the steps gave is kept: from here on no attempt makes them again.
                state = chunk
                for name in finished:
                    await context.events.step(name, "finished")
                finished.clear()
        output: dict[str, Any] = state["output"]
        return output

    async def _resume(self, context: RunContext, steps: Sequence[str]) -> None:
        name = ", ".join(steps) or END_STEP
        await context.events.step(name, "resumed")
        await context.record_resume(name)


def step[S](name: str, action: Callable[[S, Runtime[RunContext]], Awaitable[S]]) -> Any:
    """The node `name` of a graph: says that it begins, and does `action`. It is finished once Redis has its events."""

    async def node(state: S, runtime: Runtime[RunContext]) -> S:
        events = runtime.context.events
        await events.step(name, "started")
        changes = await action(state, runtime)
        await events.flush()
        return changes

    return node


class ChatState(TypedDict, total=False):
    """What the chat ends with."""

    output: dict[str, Any]


class ChatWorkflow(GraphWorkflow):
    """One answer of the model to the conversation."""

    def __init__(self) -> None:
        graph = StateGraph(ChatState, context_schema=RunContext)
        graph.add_node("generate", step("generate", _generate))
        graph.add_edge(START, "generate")
        graph.add_edge("generate", END)
        super().__init__(graph)


async def _generate(_: ChatState, runtime: Runtime[RunContext]) -> ChatState:
    context = runtime.context
    prompt = context.agent.config.system_prompt
    system = [Turn(role="system", content=prompt)] if prompt else []
    return {"output": await answer(context, [*system, *context.conversation])}


async def answer(context: RunContext, messages: Sequence[Turn]) -> dict[str, Any]:
    """The model's answer to the messages, shown as it comes: {"text", "data", "usage", "model"}."""
    events = context.events
    pieces: list[str] = []
    done: Done | None = None
    async for item in context.models.chat(context.agent, messages, timeout_seconds=context.timeout_seconds):
        match item:
            case str():
                pieces.append(item)
                await events.delta(item)
            case Notice():
                await events.log(EventLevel.WARNING, item.message, code=item.code)
            case Done():
                done = item
    if done is None:
        raise ModelOutputInvalid("The model's answer broke off before its end.")
    text = "".join(pieces)
    await events.publish(
        EventKind.MESSAGE,
        message=text,
        context={"role": "assistant", "model": done.model, "finish_reason": done.finish_reason},
    )
    usage = _usage(done)
    await events.publish(
        EventKind.USAGE,
        message=f"{done.prompt_tokens} prompt tokens, {done.completion_tokens} completion tokens",
        context={"model": done.model, "host": done.host, **usage},
    )
    data = orjson.loads(done.data) if done.data is not None else None
    return {"text": text, "data": data, "usage": usage, "model": done.model}


def _usage(done: Done) -> dict[str, Any]:
    """Token counts, and times in seconds."""
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "duration_seconds": round(done.total_seconds, 3),
        "first_token_seconds": round(done.first_token_seconds, 3),
        "queue_seconds": round(done.queue_seconds, 3),
        "load_seconds": round(done.load_seconds, 3),
        "finish_reason": done.finish_reason,
    }
