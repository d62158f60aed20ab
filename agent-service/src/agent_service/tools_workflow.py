"""The workflow `tools`: act, observe, act again with what was seen, and answer.

`act` chooses calls, or that none is needed; `observe` makes them, side by side; `answer` answers. Choosing is a step of
its own, kept before its calls are made, so that an attempt that goes on makes the same calls and finds their results.
"""

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from agent_service.acting import decide, observing
from agent_service.budgets import Limits, Spent
from agent_service.citations import cited
from agent_service.toolbox import Observation, PlannedCall
from agent_service.workflow import Changes, RunContext, ToolWorkflow, ended, step

ANSWER = "Answer the message above with what the results say. Do not mention the tools."
ANSWER_AT_LIMIT = "No further tool can be used. Answer the message above as well as you can with what you have."


class ToolsState(TypedDict, total=False):
    """What was observed, the calls to make next, and why acting ended where a limit did it."""

    observations: Annotated[list[Observation], operator.add]
    planned: list[PlannedCall]
    ended_by: str | None
    spent: Annotated[Spent, operator.add]
    output: dict[str, Any]


class ToolsWorkflow(ToolWorkflow):
    """act → observe → act … → answer."""

    def __init__(self) -> None:
        graph = StateGraph(ToolsState, context_schema=RunContext)
        graph.add_node("act", step("act", _act))
        graph.add_node("observe", step("observe", _observe))
        graph.add_node("answer", step("answer", _answer))
        graph.add_edge(START, "act")
        graph.add_conditional_edges("act", _next, ["observe", "answer", END])
        graph.add_edge("observe", "act")
        graph.add_edge("answer", END)
        super().__init__(graph)


async def _act(state: ToolsState, context: RunContext) -> Changes:
    spent = state.get("spent", Spent())
    decision = await decide(
        context,
        f"act:{spent.steps}",
        context.prompt(),
        tools=context.toolbox.specs,
        observations=state.get("observations", []),
        limits=Limits.of(context.agent.config.budget),
        spent=spent,
    )
    changes: Changes = {"planned": list(decision.calls), "ended_by": decision.ended_by, "spent": decision.spent}
    # A model that calls tools by itself has answered when it calls none; a schema still has to hold the answer.
    if decision.answer is not None and decision.answer.text.strip() and context.agent.config.output_schema is None:
        changes["output"] = _cited(ended(decision.answer.output(), spent + decision.spent), state)
    return changes


def _next(state: ToolsState) -> str:
    if "output" in state:
        return END
    return "observe" if state["planned"] else "answer"


async def _observe(state: ToolsState, context: RunContext) -> Changes:
    observations = await context.toolbox.call_all(state["planned"])
    return {"observations": observations, "spent": sum((o.spent for o in observations), Spent())}


async def _answer(state: ToolsState, context: RunContext) -> Changes:
    observations, ended_by = state.get("observations", []), state.get("ended_by")
    prompt = observing(context.prompt(), observations, native=await context.model_calls.can_call_tools())
    if ended_by is not None:
        prompt = prompt.closing_with(ANSWER_AT_LIMIT)
    elif observations:
        prompt = prompt.closing_with(ANSWER)
    answer, spent = await context.model_calls.answer("answer", prompt)
    return {"output": _cited(ended(answer.output(), state["spent"] + spent, ended_by), state), "spent": spent}


def _cited(output: dict[str, Any], state: ToolsState) -> dict[str, Any]:
    return cited(output, (observation.looked_up for observation in state.get("observations", [])))
