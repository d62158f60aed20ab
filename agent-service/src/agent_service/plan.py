"""Plans as data: small steps, each of which names the earlier ones whose results it needs, so no plan has a cycle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agent_service.tool import ToolSpec
from agent_service.toolbox import PlannedCall

MAX_PLAN_STEPS = 6
MAX_TASK_CHARACTERS = 400
NOBODY = "none"


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One step of a plan: what is to be done, by which tool or agent ("none": the model alone), after which steps."""

    id: int
    task: str
    by: str
    needs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How far a step is: "begun" (its `calls`, if any, are to be made), "made" (`text` is what it gave), then "done" or
    "failed", as the check found. `found` is the data of those of its calls that looked something up."""

    step: PlanStep
    state: str
    text: str = ""
    calls: tuple[PlannedCall, ...] = ()
    found: tuple[Any, ...] = ()
    problem: str = ""


def plan_schema(specs: Sequence[ToolSpec]) -> str:
    """The JSON Schema of a plan whose steps are done by these."""
    one = {
        "type": "object",
        "properties": {
            "task": {"type": "string", "minLength": 1, "maxLength": MAX_TASK_CHARACTERS},
            "by": {"enum": [*(spec.name for spec in specs), NOBODY]},
            "needs": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": MAX_PLAN_STEPS},
        },
        "required": ["task", "by", "needs"],
        "additionalProperties": False,
    }
    return orjson.dumps(
        {
            "type": "object",
            "properties": {"steps": {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_PLAN_STEPS}},
            "required": ["steps"],
            "additionalProperties": False,
        }
    ).decode()


def steps_of(data: Mapping[str, Any], *, first_id: int) -> list[PlanStep]:
    """The steps of a plan, numbered from `first_id`. The model numbers them from 1; a step may need earlier ones alone,
    and what else it says it needs is passed over."""
    return [
        PlanStep(
            id=first_id + index,
            task=item["task"],
            by=item["by"],
            needs=tuple(sorted({first_id + need - 1 for need in item["needs"] if 1 <= need <= index})),
        )
        for index, item in enumerate(data["steps"])
    ]
