"""The arguments of one tool's call: taken from the question where it says them, asked for under the tool's own schema
where it does not, checked, and repaired."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hearth_runtime.tasks import Turn

from agent_service.tool import ToolSpec
from agent_service.tool_candidates import Candidate
from agent_service.tool_choice import ChoiceModel, How, ToolCall, ToolChoiceSettings
from agent_service.tool_examples import example
from agent_service.tool_filling import Filling
from agent_service.tool_schemas import held, properties_of, required_of, violation
from agent_service.tool_spans import Span

VALUES_SHOWN = 20
# What the purposes of repair turns begin with.
REPAIR = "repair"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Arguments that were tried before, and what is wrong with them."""

    arguments: dict[str, Any]
    message: str


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What the model is to fill in: a closed schema in which decided values are constants."""

    schema: dict[str, Any]
    decided: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.schema["properties"])

    @property
    def is_decided(self) -> bool:
        return len(self.decided) == len(self.schema["properties"])


async def arguments_of(
    tool: ToolSpec,
    filling: Filling,
    conversation: Sequence[Turn],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
    *,
    place: int,
    refused: Refused | None = None,
    repair: str = REPAIR,
) -> ToolCall | None:
    """A valid call, None where the model finds none in its repair turns. No two calls of a choice have both `place` and
    `repair` in common, which name what the model is asked.

    Where the `filling` decides each argument, the model is not asked.
    """
    how, message = How.CONSTRAINED, "" if refused is None else refused.message
    answer = "" if refused is None else orjson.dumps(refused.arguments).decode()
    form = _form(tool, filling, settings)
    if refused is None and form.is_decided:
        wrong = violation(tool.parameters, form.decided)
        if wrong is None:
            return ToolCall(name=tool.name, arguments=form.decided, how=how)
        answer, message = orjson.dumps(form.decided).decode(), wrong
    # Where something was wrong, the values of the question only stand in the prompt.
    free = _form(tool, Filling(), settings, names=form.names)
    messages = _messages(tool, form.names, filling, conversation, settings)
    for turn in range(settings.repair_turns + 1):
        if message:
            how, form = How.REPAIRED, free
            messages += _repair(answer, message)
        purpose = f"{repair}:{place}:{turn}" if message else f"arguments:{place}"
        answer = await model.complete(
            messages, schema=form.schema, max_tokens=settings.argument_tokens, purpose=purpose
        )
        arguments, message = _read(tool, answer)
        if not message:
            return ToolCall(name=tool.name, arguments=arguments, how=how)
    return None


def _form(
    tool: ToolSpec, filling: Filling, settings: ToolChoiceSettings, *, names: Sequence[str] | None = None
) -> _Form:
    required = required_of(tool.parameters)
    properties: dict[str, Any] = {}
    decided: dict[str, Any] = {}
    for name, schema in properties_of(tool.parameters).items():
        found = filling.candidates.get(name, [])
        wanted = name in names if names is not None else bool(found) or name in required or not settings.omit_optional
        if not wanted:
            continue
        # What another argument takes is not offered a second time.
        others = [f[0].span for other, f in filling.candidates.items() if other != name and f]
        near = found[:1] + [
            c for c in found[1:] if found[0].score - c.score < settings.margin and not _taken(c, others)
        ]
        values = [value for n, c in enumerate(near) if (value := c.value) not in [other.value for other in near[:n]]]
        if not values and names is None and "default" in schema and settings.candidates:
            values = [schema["default"]]
        if len(values) == 1:
            properties[name] = {"const": values[0]}
            decided[name] = values[0]
        elif values:
            properties[name] = {"enum": values}
        else:
            properties[name] = held(tool.parameters, schema)
    form = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return _Form(schema=form, decided=decided)


def _taken(candidate: Candidate, spans: Sequence[Span | None]) -> bool:
    span = candidate.span
    return span is not None and any(s is not None and span.start < s.end and s.start < span.end for s in spans)


def _read(tool: ToolSpec, answer: str) -> tuple[dict[str, Any], str]:
    """The arguments of an answer, and what is wrong with them, or nothing."""
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return {}, "that is no whole JSON object; give short values"
    if not isinstance(value, dict):
        return {}, "that is no JSON object"
    return value, violation(tool.parameters, value) or ""


def _messages(
    tool: ToolSpec,
    names: Sequence[str],
    filling: Filling,
    conversation: Sequence[Turn],
    settings: ToolChoiceSettings,
) -> list[Turn]:
    lines = [
        f"- {name}: {schema.get('description', schema.get('type', ''))}"
        for name, schema in properties_of(tool.parameters).items()
        if name in names
    ]
    values = list(dict.fromkeys(str(c.value) for found in filling.candidates.values() for c in found))[:VALUES_SHOWN]
    system = "\n".join(
        [
            f"You fill in the arguments of the tool {tool.name}: {tool.description}",
            "Take the values from the question. Answer with JSON.",
            *lines,
            *(["Values that occur in the question: " + ", ".join(values)] if values else []),
        ]
    )
    shown: list[Turn] = []
    if settings.examples and names:
        request, arguments = example(tool.parameters, names)
        shown = [
            Turn(role="user", content=request),
            Turn(role="assistant", content=orjson.dumps(arguments).decode()),
        ]
    return [Turn(role="system", content=system), *shown, *conversation]


def _repair(answer: str, wrong: str) -> list[Turn]:
    return [
        Turn(role="assistant", content=answer),
        Turn(role="user", content=f"These arguments are not valid: {wrong}. Give them again, corrected."),
    ]
