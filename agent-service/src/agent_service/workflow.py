"""What a run does: a small graph of steps, behind one interface.

A workflow is given the conversation and answers with the output; whatever it shows meanwhile goes out as events.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import orjson
from hearth_runtime.agents import Agent
from hearth_runtime.errors import ModelOutputInvalid
from hearth_runtime.events import EventKind, EventLevel
from hearth_runtime.tasks import Turn
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from agent_service.inference import Done, Models, Notice
from agent_service.publisher import RunEvents


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the steps of one run work with."""

    agent: Agent
    conversation: tuple[Turn, ...]  # the session's earlier turns, then the input's
    models: Models
    events: RunEvents
    timeout_seconds: float


class Workflow(Protocol):
    """A way to run an agent."""

    async def run(self, context: RunContext) -> dict[str, Any]:
        """The task's output: {"text", "data", "usage", "model"}. Raises HearthError; may be cancelled at any await."""
        ...


class ChatState(TypedDict, total=False):
    """What the chat's steps hand on."""

    messages: list[Turn]
    output: dict[str, Any]


class ChatWorkflow:
    """One answer of the model to the conversation."""

    def __init__(self) -> None:
        graph = StateGraph(ChatState, context_schema=RunContext)
        graph.add_node("prepare", _prepare)
        graph.add_node("generate", _generate)
        graph.add_edge(START, "prepare")
        graph.add_edge("prepare", "generate")
        graph.add_edge("generate", END)
        self._graph = graph.compile()

    async def run(self, context: RunContext) -> dict[str, Any]:
        state = await self._graph.ainvoke(ChatState(), context=context)
        output: dict[str, Any] = state["output"]
        return output


async def _prepare(state: ChatState, runtime: Runtime[RunContext]) -> ChatState:
    context = runtime.context
    prompt = context.agent.config.system_prompt
    system = [Turn(role="system", content=prompt)] if prompt else []
    return {"messages": [*system, *context.conversation]}


async def _generate(state: ChatState, runtime: Runtime[RunContext]) -> ChatState:
    context = runtime.context
    events = context.events
    await events.step("generate", "started", model=context.agent.model_name)
    pieces: list[str] = []
    done: Done | None = None
    async for item in context.models.chat(context.agent, state["messages"], timeout_seconds=context.timeout_seconds):
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
    await events.step("generate", "finished")
    data = orjson.loads(done.data) if done.data is not None else None
    return {"output": {"text": text, "data": data, "usage": usage, "model": done.model}}


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
