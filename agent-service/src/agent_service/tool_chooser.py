"""The tool-calling engine: from a conversation and tools to calls that can be made."""

from collections.abc import Sequence
from typing import Any

import orjson
from hearth_runtime.errors import ModelLacksCapability, ModelOutputInvalid
from hearth_runtime.tasks import Turn
from loguru import logger

from agent_service.tool import ToolSpec
from agent_service.tool_arguments import arguments_of
from agent_service.tool_choice import (
    Choice,
    ChoiceModel,
    How,
    NativeCall,
    ToolCall,
    ToolChoiceSettings,
)
from agent_service.tool_narrowing import described, rank
from agent_service.tool_schemas import violation

NO_TOOL = "none"
NAME_TOKENS = 64
# Below this cosine between the question and the nearest tool, none fits.
LEAST_SIMILARITY = 0.8


async def choose_tools(
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    *,
    settings: ToolChoiceSettings | None = None,
    made: Sequence[tuple[str, dict[str, Any]]] = (),
) -> Choice:
    """The calls that the last message of a user asks for.

    `made` are the calls, name and arguments, that were made for it already: a model that is led is not led into the
    same call twice, so that a loop over this function ends.
    """
    settings = settings or ToolChoiceSettings()
    if not tools:
        return Choice(calls=())
    if settings.native and model.native:
        try:
            answer = await model.call_tools(conversation, tools)
        except (ModelOutputInvalid, ModelLacksCapability) as error:
            # It called in a way that its host could not read, or a model answers in its place that has no tools.
            logger.info("native tool calling failed; the model is led", code=error.code)
        else:
            if not answer.calls:
                return Choice(calls=(), text=answer.text)
            calls = await _checked(answer.calls[: settings.max_calls], conversation, tools, model, settings)
            if calls:
                return Choice(calls=tuple(calls))
    calls = await _led(conversation, tools, model, settings)
    return Choice(calls=tuple(call for call in _distinct(calls) if (call.name, call.arguments) not in made))


async def _checked(
    given: Sequence[NativeCall],
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
) -> list[ToolCall]:
    """The native calls that are valid, or could be repaired; those of unknown tools are dropped."""
    known = {tool.name: tool for tool in tools}
    calls: list[ToolCall] = []
    for place, call in enumerate(given):
        tool = known.get(call.name)
        if tool is None:
            continue
        wrong = violation(tool.parameters, call.arguments)
        if wrong is None:
            calls.append(ToolCall(name=call.name, arguments=call.arguments, how=How.NATIVE))
            continue
        repaired = await arguments_of(tool, conversation, model, settings, place=place, refused=(call.arguments, wrong))
        if repaired is not None:
            calls.append(repaired)
    return calls


async def _led(
    conversation: Sequence[Turn], tools: Sequence[ToolSpec], model: ChoiceModel, settings: ToolChoiceSettings
) -> list[ToolCall]:
    question = next((turn.content for turn in reversed(conversation) if turn.role == "user"), "")
    tool = await _tool(question, conversation, tools, model, settings)
    if tool is None:
        return []
    call = await arguments_of(tool, conversation, model, settings, place=0)
    return [] if call is None else [call]


async def _tool(
    question: str,
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
) -> ToolSpec | None:
    if settings.narrowing:
        nearest = (await rank(question, tools, model))[0]
        return None if settings.none_fits and nearest.similarity < LEAST_SIMILARITY else nearest.tool
    names = [tool.name for tool in tools] + ([NO_TOOL] if settings.none_fits else [])
    system = "\n".join(["Choose the tool that answers the question.", *(f"- {described(tool)}" for tool in tools)])
    if settings.none_fits:
        system += f"\n- {NO_TOOL}: no tool fits"
    schema = {
        "type": "object",
        "properties": {"tool": {"enum": names}},
        "required": ["tool"],
        "additionalProperties": False,
    }
    text = await model.complete(
        [Turn(role="system", content=system), *conversation], schema=schema, max_tokens=NAME_TOKENS, purpose="choose"
    )
    try:
        name = orjson.loads(text).get("tool")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return next((tool for tool in tools if tool.name == name), None)


def _distinct(calls: Sequence[ToolCall]) -> list[ToolCall]:
    seen: list[tuple[str, dict[str, Any]]] = []
    kept: list[ToolCall] = []
    for call in calls:
        if (call.name, call.arguments) not in seen:
            seen.append((call.name, call.arguments))
            kept.append(call)
    return kept
