"""The workflow `reflect`: a draft, a critique of it by the agent's own criteria, a revised draft, at most N times.

Each criterion is asked by itself, as a yes or no with the problem in words: small models lose track of lists.
"""

import operator
from typing import Annotated, Any, TypedDict

from hearth_runtime.events import EventKind, EventLevel
from langgraph.graph import END, START, StateGraph

from agent_service.budgets import Limits, Spent
from agent_service.prompt import Prompt
from agent_service.siblings import side_by_side
from agent_service.verdicts import VERDICT_TOKENS, max_revisions, verdict_schema
from agent_service.workflow import Changes, GraphWorkflow, RunContext, ended, step

DEFAULT_CRITERIA = ("It answers the question.", "It contains no mistake.")
VERDICT = verdict_schema("met")


class ReflectState(TypedDict, total=False):
    """The draft so far as an output, what is wrong with it, and how often it was revised."""

    draft: dict[str, Any]
    problems: list[str]
    revisions: int
    ended_by: str | None
    spent: Annotated[Spent, operator.add]
    output: dict[str, Any]


class ReflectWorkflow(GraphWorkflow):
    """draft → critique → revise → critique … → finish."""

    def __init__(self) -> None:
        graph = StateGraph(ReflectState, context_schema=RunContext)
        graph.add_node("draft", step("draft", _draft))
        graph.add_node("critique", step("critique", _critique))
        graph.add_node("revise", step("revise", _revise))
        graph.add_node("finish", step("finish", _finish))
        graph.add_edge(START, "draft")
        graph.add_edge("draft", "critique")
        graph.add_conditional_edges("critique", _next, ["revise", "finish"])
        graph.add_edge("revise", "critique")
        graph.add_edge("finish", END)
        super().__init__(graph)


async def _draft(_: ReflectState, context: RunContext) -> Changes:
    answer, spent = await context.model_calls.answer("draft", context.prompt(), shown=False)
    return {"draft": answer.output(), "spent": spent + Spent(steps=1)}


async def _critique(state: ReflectState, context: RunContext) -> Changes:
    config = context.agent.config
    revisions = state.get("revisions", 0)
    if (reached := Limits.of(config.budget).reached(state["spent"])) is not None:
        return {"problems": state.get("problems", []), "ended_by": reached}
    criteria = config.criteria or DEFAULT_CRITERIA
    prompt = context.prompt()
    verdicts = await side_by_side(
        _verdict(context, f"critique:{revisions}:{i}", prompt, state["draft"]["text"], criterion)
        for i, criterion in enumerate(criteria)
    )
    problems = [problem for problem, _ in verdicts if problem is not None]
    await context.events.log(
        EventLevel.INFO,
        "The draft falls short: " + " ".join(problems) if problems else "The draft meets its criteria.",
        code="critique",
        problems=problems,
        revision=revisions,
    )
    return {
        "problems": problems,
        "ended_by": "revisions" if problems and revisions >= max_revisions(config) else None,
        "spent": sum((used for _, used in verdicts), Spent(steps=1)),
    }


async def _verdict(
    context: RunContext, call_id: str, prompt: Prompt, draft: str, criterion: str
) -> tuple[str | None, Spent]:
    """The problem of the draft by this criterion, None where it meets it."""
    asked = prompt.closing_with(
        f"This is an answer to the message above:\n<answer>\n{draft}\n</answer>\n"
        f"Criterion: {criterion}\nName the problem, if there is one, and say whether the answer meets the criterion."
    )
    answer, spent = await context.model_calls.valid(call_id, asked, output_schema=VERDICT, max_tokens=VERDICT_TOKENS)
    if answer.data["met"]:
        return None, spent
    return f"{criterion} {answer.data['problem']}".strip(), spent


def _next(state: ReflectState) -> str:
    return "revise" if state["problems"] and state.get("ended_by") is None else "finish"


async def _revise(state: ReflectState, context: RunContext) -> Changes:
    revisions = state.get("revisions", 0) + 1
    problems = "\n".join(f"- {problem}" for problem in state["problems"])
    prompt = context.prompt().closing_with(
        f"This is a first answer to the message above:\n<answer>\n{state['draft']['text']}\n</answer>\n"
        f"It has these problems:\n{problems}\nWrite the answer again without them. Write the answer alone."
    )
    answer, spent = await context.model_calls.answer(f"revise:{revisions}", prompt, shown=False)
    return {"draft": answer.output(), "revisions": revisions, "spent": spent + Spent(steps=1)}


async def _finish(state: ReflectState, context: RunContext) -> Changes:
    draft, ended_by = state["draft"], state.get("ended_by")
    await context.events.publish(
        EventKind.MESSAGE, message=draft["text"], context={"role": "assistant", "model": draft["model"]}
    )
    output = ended(draft, state["spent"], ended_by)
    return {"output": {**output, "revisions": state.get("revisions", 0), "problems": state["problems"]}}
