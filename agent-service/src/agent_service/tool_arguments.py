"""The arguments of one tool's call: asked for under the tool's own schema, checked, and repaired."""

from collections.abc import Sequence
from typing import Any

import orjson
from hearth_runtime.tasks import Turn

from agent_service.tool import ToolSpec
from agent_service.tool_choice import ChoiceModel, How, ToolCall, ToolChoiceSettings
from agent_service.tool_examples import example
from agent_service.tool_schemas import held, properties_of, required_of, violation


async def arguments_of(
    tool: ToolSpec,
    conversation: Sequence[Turn],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
    *,
    place: int,
    refused: tuple[dict[str, Any], str] | None = None,
) -> ToolCall | None:
    """A valid call, the `place`-th of its choice; None where the model finds none in its repair turns.

    `refused` are arguments that were tried before, and what is wrong with them.
    """
    names = list(properties_of(tool.parameters)) if not settings.omit_optional else required_of(tool.parameters)
    schema = held(tool.parameters, {**tool.parameters, "type": "object"})
    schema["required"] = [name for name in names if name in schema.get("properties", {})]
    messages = _messages(tool, names, conversation, settings)
    how = How.CONSTRAINED
    if refused is not None:
        messages += _repair(orjson.dumps(refused[0]).decode(), refused[1])
        how = How.REPAIRED
    for turn in range(settings.repair_turns + 1):
        purpose = f"repair:{place}:{turn}" if how is How.REPAIRED else f"arguments:{place}"
        text = await model.complete(messages, schema=schema, max_tokens=settings.argument_tokens, purpose=purpose)
        wrong, arguments = _checked(tool, text)
        if wrong is None:
            return ToolCall(name=tool.name, arguments=arguments, how=how)
        messages += _repair(text, wrong)
        how = How.REPAIRED
    return None


def _checked(tool: ToolSpec, text: str) -> tuple[str | None, dict[str, Any]]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "that is no whole JSON object; give short values", {}
    if not isinstance(value, dict):
        return "that is no JSON object", {}
    return violation(tool.parameters, value), value


def _messages(
    tool: ToolSpec, names: list[str], conversation: Sequence[Turn], settings: ToolChoiceSettings
) -> list[Turn]:
    lines = [
        f"- {name}: {schema.get('description', schema.get('type', ''))}"
        for name, schema in properties_of(tool.parameters).items()
        if name in names
    ]
    system = "\n".join(
        [
            f"You fill in the arguments of the tool {tool.name}: {tool.description}",
            "Take the values from the question. Answer with JSON.",
            *lines,
        ]
    )
    shown: list[Turn] = []
    if settings.examples and names:
        request, values = example(tool.parameters, names)
        shown = [
            Turn(role="user", content=request),
            Turn(role="assistant", content=orjson.dumps(values).decode()),
        ]
    return [Turn(role="system", content=system), *shown, *conversation]


def _repair(answer: str, wrong: str) -> list[Turn]:
    return [
        Turn(role="assistant", content=answer),
        Turn(role="user", content=f"These arguments are not valid: {wrong}. Give them again, corrected."),
    ]
