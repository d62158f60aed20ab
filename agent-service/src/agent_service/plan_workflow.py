"""The workflows `plan` and `team`: a plan as data, its steps done side by side where they don't depend on each other, a
check of each result, a revised plan where one failed, and a final answer.

A step is done by a tool of the agent's, by another agent (`config.agents`), or by the model alone. `team` is the same
with agents, and does not begin without any.
"""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypedDict

from hearth_runtime.errors import InvalidArgument
from hearth_runtime.events import EventLevel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from agent_service import team
from agent_service.acting import decide
from agent_service.budgets import Limits, Spent
from agent_service.citations import cited
from agent_service.inference import Message
from agent_service.plan import MAX_PLAN_STEPS, NOBODY, PlanStep, StepResult, plan_schema, steps_of
from agent_service.prompt import Prompt, as_data
from agent_service.siblings import side_by_side
from agent_service.tool import ToolSpec
from agent_service.toolbox import DATA_ONLY, Observation, PlannedCall
from agent_service.verdicts import VERDICT_TOKENS, max_revisions, verdict_schema
from agent_service.workflow import Changes, RunContext, ToolWorkflow, ended, step

PLAN_TOKENS = 600
VERDICT = verdict_schema("ok")


class PlanState(TypedDict, total=False):
    """The plan, how far its steps are (by their ids), and how often it was revised.

    The ids of a revised plan go on where the one before it ended, so a result belongs to one step for ever.
    """

    plan: list[PlanStep]
    results: Annotated[dict[int, StepResult], operator.or_]
    revisions: int
    ended_by: str | None
    spent: Annotated[Spent, operator.add]
    output: dict[str, Any]


class Handed(TypedDict):
    """What one step of the plan is given: itself and the results that it needs."""

    step: PlanStep
    needed: list[StepResult]


class PlanWorkflow(ToolWorkflow):
    """plan → work, side by side → observe → check → work or plan again … → answer.

    `work` decides on the calls of each step, `observe` makes those of all steps side by side: what was decided is kept
    before it is done.
    """

    def __init__(self) -> None:
        graph = StateGraph(PlanState, context_schema=RunContext)
        graph.add_node("plan", step("plan", _plan))
        graph.add_node("work", step("work", _work))
        graph.add_node("observe", step("observe", _observe))
        graph.add_node("check", step("check", _check))
        graph.add_node("answer", step("answer", _answer))
        graph.add_edge(START, "plan")
        graph.add_conditional_edges("plan", _next, ["plan", "work", "answer"])
        graph.add_edge("work", "observe")
        graph.add_edge("observe", "check")
        graph.add_conditional_edges("check", _next, ["plan", "work", "answer"])
        graph.add_edge("answer", END)
        super().__init__(graph)


async def _plan(state: PlanState, context: RunContext) -> Changes:
    results = state.get("results", {})
    revisions = state["revisions"] + 1 if "revisions" in state else 0
    specs = context.toolbox.specs
    listed = "\n".join(f"- {spec.name}: {spec.description}" for spec in specs)
    prompt = _with_results(context.prompt(), list(results.values())).closing_with(
        f"Plan how to answer the message above, in at most {MAX_PLAN_STEPS} small steps. Each has a task in one "
        f'sentence, and "by" what it is done: a tool, or "{NOBODY}" where you do it yourself. In "needs" name '
        f"the numbers of the steps whose results it needs, if any.\nThe tools:\n{listed or '(none)'}"
        + ("\nPlan only what is still missing, and avoid what failed." if results else "")
    )
    answer, spent = await context.model_calls.valid(
        f"plan:{revisions}", prompt, output_schema=plan_schema(specs), max_tokens=PLAN_TOKENS
    )
    plan = steps_of(answer.data, first_id=max(results, default=0) + 1)
    await context.events.log(
        EventLevel.INFO,
        "The plan: " + " ".join(f"{s.id}. {s.task} ({s.by})" for s in plan),
        code="plan",
        revision=revisions,
        steps=[{"id": s.id, "task": s.task, "by": s.by, "needs": s.needs} for s in plan],
    )
    ended_by = Limits.of(context.agent.config.budget).reached(state.get("spent", Spent()) + spent)
    return {"plan": plan, "revisions": revisions, "ended_by": ended_by, "spent": spent + Spent(steps=1)}


async def _work(state: Handed, context: RunContext) -> Changes:
    plan_step, call_id = state["step"], f"work:{state['step'].id}"
    spec = next((spec for spec in context.toolbox.specs if spec.name == plan_step.by), None)
    if spec is None and plan_step.by != NOBODY:
        problem = f"There is no tool {plan_step.by} any more."
        await _tell_failure(context, plan_step, problem)
        return {"results": {plan_step.id: StepResult(step=plan_step, state="failed", text=problem, problem=problem)}}
    prompt = _with_results(Prompt(question=(Message(role="user", content=plan_step.task),)), state["needed"])
    calls: tuple[PlannedCall, ...] = ()
    spent = Spent()
    if spec is not None:
        calls, spent = await _calls(context, call_id, spec, prompt)
    if calls:
        result = StepResult(step=plan_step, state="begun", calls=calls)
    else:
        answer = await context.model_calls.make(f"{call_id}:answer", prompt)
        spent += answer.spent
        result = StepResult(step=plan_step, state="made", text=answer.text)
    return {"results": {plan_step.id: result}, "spent": spent}


async def _calls(
    context: RunContext, call_id: str, spec: ToolSpec, prompt: Prompt
) -> tuple[tuple[PlannedCall, ...], Spent]:
    """The call of the tool that the plan names: an agent is given the task as it is, of another tool the model chooses
    the arguments."""
    if spec.parameters == team.PARAMETERS:
        text = "\n\n".join(message.content for message in prompt.messages())[: team.MAX_TASK_CHARACTERS]
        return (PlannedCall(id=f"{call_id}:0", tool=spec.name, arguments={team.TASK: text}, how="plan"),), Spent()
    decision = await decide(
        context,
        call_id,
        prompt,
        tools=[spec],
        observations=(),
        limits=Limits.of(context.agent.config.budget),
        spent=Spent(),
        may_do_without=False,
    )
    return decision.calls, decision.spent


async def _observe(state: PlanState, context: RunContext) -> Changes:
    begun = [result for result in state["results"].values() if result.state == "begun"]
    calls, left_out = _within_budget(state, context, [call for result in begun for call in result.calls])
    for observation in left_out:
        await context.events.log(EventLevel.WARNING, observation.content, code="budget", call=observation.call.id)
    seen = await context.toolbox.call_all(calls)
    observed = {observation.call.id: observation for observation in (*seen, *left_out)}
    made = {}
    for result in begun:
        observations = [observed[call.id] for call in result.calls]
        text = "\n".join(observation.content for observation in observations)
        problem = text if any(observation.is_error for observation in observations) else ""
        found = tuple(observation.looked_up for observation in observations if observation.looked_up is not None)
        state_now = "failed" if problem else "made"
        made[result.step.id] = replace(result, state=state_now, text=text, found=found, problem=problem)
    return {"results": made, "spent": sum((observation.spent for observation in seen), Spent())}


def _within_budget(
    state: PlanState, context: RunContext, calls: Sequence[PlannedCall]
) -> tuple[list[PlannedCall], list[Observation]]:
    """Those of the calls that the budget lets be made, and what is observed of the others."""
    limits = Limits.of(context.agent.config.budget)
    left = limits.tool_calls - state["spent"].tool_calls
    made = Counter(call.same for r in state["results"].values() if r.state != "begun" for call in r.calls)
    allowed: list[PlannedCall] = []
    left_out: list[Observation] = []
    for call in calls:
        if made[call.same] > limits.repeated_calls:
            limit = "repeated_calls"
        elif len(allowed) >= left:
            limit = "tool_calls"
        else:
            made[call.same] += 1
            allowed.append(call)
            continue
        content = f"The call of {call.tool} is left out: config.budget.max_{limit} is reached."
        left_out.append(Observation(call=call, content=content, is_error=True, data=None))
    return allowed, left_out


async def _check(state: PlanState, context: RunContext) -> Changes:
    made = [result for result in state["results"].values() if result.state == "made"]
    checked = await side_by_side(_checked(context, result) for result in made)
    results = {result.step.id: result for result, _ in checked}
    spent = sum((used for _, used in checked), Spent(steps=1))
    config = context.agent.config
    ended_by = Limits.of(config.budget).reached(state["spent"] + spent)
    has_failed = _failed(state["plan"], state["results"] | results)
    if ended_by is None and has_failed and state["revisions"] >= max_revisions(config):
        ended_by = "revisions"
    return {"results": results, "ended_by": ended_by, "spent": spent}


async def _checked(context: RunContext, result: StepResult) -> tuple[StepResult, Spent]:
    """The result, done, or failed where the model finds that it does not do what the step asks."""
    prompt = _with_results(Prompt(), [result]).closing_with(
        f"Does this result do the task: {result.step.task}\n"
        "Name the problem, if there is one, and say whether it is ok."
    )
    answer, spent = await context.model_calls.valid(
        f"check:{result.step.id}", prompt, output_schema=VERDICT, max_tokens=VERDICT_TOKENS
    )
    if answer.data["ok"]:
        return replace(result, state="done"), spent
    problem = answer.data["problem"]
    await _tell_failure(context, result.step, problem)
    return replace(result, state="failed", problem=problem), spent


async def _tell_failure(context: RunContext, failed: PlanStep, problem: str) -> None:
    await context.events.log(
        EventLevel.WARNING, f"Step {failed.id} failed: {problem}", code="step_failed", failed_step=failed.id
    )


def _next(state: PlanState) -> str | list[Send]:
    plan, results = state["plan"], state.get("results", {})
    if state.get("ended_by") is not None:
        return "answer"
    if _failed(plan, results):
        return "plan"
    ready = [s for s in plan if s.id not in results and all(need in results for need in s.needs)]
    if not ready:
        return "answer"
    return [Send("work", Handed(step=s, needed=[results[need] for need in s.needs])) for s in ready]


async def _answer(state: PlanState, context: RunContext) -> Changes:
    results, ended_by = list(state.get("results", {}).values()), state.get("ended_by")
    prompt = _with_results(context.prompt(), results)
    if ended_by is not None:
        prompt = prompt.closing_with("Not everything could be done. Answer the message above as well as you can.")
    else:
        prompt = prompt.closing_with("Answer the message above with these results.")
    answer, spent = await context.model_calls.answer("answer", prompt)
    output = ended(answer.output(), state["spent"] + spent, ended_by)
    # Also what a failed step found was shown to the model.
    output = cited(output, (data for result in results for data in result.found))
    steps = [
        {"id": r.step.id, "task": r.step.task, "by": r.step.by, "state": r.state, "problem": r.problem} for r in results
    ]
    return {"output": {**output, "steps": steps}, "spent": spent}


def _failed(plan: Sequence[PlanStep], results: Mapping[int, StepResult]) -> bool:
    return any(s.id in results and results[s.id].state == "failed" for s in plan)


def _with_results(prompt: Prompt, results: Sequence[StepResult]) -> Prompt:
    """The prompt with what the steps gave, marked as data."""
    if not results:
        return prompt
    return prompt.with_rule(DATA_ONLY).observing(
        *(
            Message(role="user", content=as_data(r.text, step=r.step.id, task=r.step.task, state=r.state))
            for r in results
        )
    )


class TeamWorkflow(PlanWorkflow):
    """A plan whose steps are handed to other agents."""

    async def run(self, context: RunContext) -> dict[str, Any]:
        if not context.agent.config.agents:
            raise InvalidArgument("A team needs members: name the ids of other agents in config.agents.")
        return await super().run(context)
