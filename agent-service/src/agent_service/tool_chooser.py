"""The tool-calling engine: from a conversation and tools to calls that can be made."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from hearth_runtime.errors import ModelLacksCapability, ModelOutputInvalid
from hearth_runtime.tasks import Turn
from loguru import logger

from agent_service.tool import ToolSpec
from agent_service.tool_arguments import REPAIR, Refused, arguments_of
from agent_service.tool_choice import (
    Choice,
    ChoiceModel,
    How,
    NativeCall,
    ToolCall,
    ToolChoiceSettings,
)
from agent_service.tool_filling import Filling, fill
from agent_service.tool_narrowing import LEAST_FIT, described, rank
from agent_service.tool_parts import calls_in
from agent_service.tool_schemas import held, violation

NO_TOOL = "none"
NAME_TOKENS = 64
MAX_PARTS = 8
CERTAIN_FIT = LEAST_FIT + 1.5  # what a sentence must reach to be given a tool of its own
SENTENCE = re.compile(r"(?<=[.?!;])\s+|,?\s+(?:and then|then|and also|after that,?)\s+", re.IGNORECASE)


async def choose_tools(
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    *,
    settings: ToolChoiceSettings | None = None,
    made: Sequence[tuple[str, dict[str, Any]]] = (),
    fitted: Callable[[], Awaitable[Sequence[Turn]]] | None = None,
) -> Choice:
    """The calls that the last message of a user asks for.

    `fitted` gives the conversation with room for what leading a model adds; it is called once, where the model is led,
    or asked to repair its calls. `made` are the calls, name and arguments, that were made for it already: a model that
    is led is not led into the same call twice, so that a loop over this function ends.
    """
    settings = settings or ToolChoiceSettings()
    if not tools:
        return Choice(calls=())
    repair = REPAIR
    if settings.native and model.native:
        try:
            answer = await model.call_tools(conversation, tools)
        except (ModelOutputInvalid, ModelLacksCapability) as error:
            # It called in a way that its host could not read, or a model answers in its place that has no tools.
            logger.info("native tool calling failed; the model is led", code=error.code)
        else:
            if not answer.calls:
                return Choice(calls=(), text=answer.text)
            checked = _checked(answer.calls[: settings.max_calls], tools)
            if any(call.wrong is not None for call in checked):
                if fitted is not None:
                    conversation, fitted = await fitted(), None
                repair = f"led:{REPAIR}"  # what follows if these turns come to nothing has purposes of its own
            calls = await _repaired(checked, conversation, model, settings)
            if calls:
                return Choice(calls=tuple(calls))
    if fitted is not None:
        conversation = await fitted()
    calls = await _led(conversation, tools, model, settings, repair=repair)
    return Choice(calls=tuple(call for call in _distinct(calls) if (call.name, call.arguments) not in made))


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """A native call of a tool that there is, the `place`-th that was given, and what is wrong with its arguments."""

    place: int
    tool: ToolSpec
    arguments: dict[str, Any]
    wrong: str | None


def _checked(given: Sequence[NativeCall], tools: Sequence[ToolSpec]) -> list[_Checked]:
    """The native calls; those of unknown tools are dropped."""
    known = {tool.name: tool for tool in tools}
    return [
        _Checked(place=place, tool=tool, arguments=call.arguments, wrong=violation(tool.parameters, call.arguments))
        for place, call in enumerate(given)
        if (tool := known.get(call.name)) is not None
    ]


async def _repaired(
    checked: Sequence[_Checked], conversation: Sequence[Turn], model: ChoiceModel, settings: ToolChoiceSettings
) -> list[ToolCall]:
    """The calls that are valid, or could be repaired."""
    calls: list[ToolCall] = []
    for call in checked:
        if call.wrong is None:
            calls.append(ToolCall(name=call.tool.name, arguments=call.arguments, how=How.NATIVE))
            continue
        refused = Refused(arguments=call.arguments, message=call.wrong)
        filling = Filling()
        if settings.candidates:
            filling = await asyncio.to_thread(fill, call.tool, _question(conversation))
        repaired = await arguments_of(
            call.tool, filling, conversation, model, settings, place=call.place, refused=refused
        )
        if repaired is not None:
            calls.append(repaired)
    return calls


def _question(conversation: Sequence[Turn]) -> str:
    return next((turn.content for turn in reversed(conversation) if turn.role == "user"), "")


async def _led(
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
    *,
    repair: str,
) -> list[ToolCall]:
    if not settings.two_steps:
        return await _at_once(conversation, tools, model, settings)
    question = _question(conversation)
    calls: list[ToolCall] = []
    places = count()  # also a call that comes to nothing has asked the model
    for tool, text in await _tools(question, conversation, tools, model, settings):
        fillings = await asyncio.to_thread(_fillings, tool, text, settings)
        for one in fillings[: settings.max_calls - len(calls)]:
            call = await arguments_of(tool, one, conversation, model, settings, place=next(places), repair=repair)
            if call is not None:
                calls.append(call)
    return calls


def _fillings(tool: ToolSpec, text: str, settings: ToolChoiceSettings) -> list[Filling]:
    """What the text says of each call of the tool."""
    if not settings.candidates:
        return [Filling()]
    filling = fill(tool, text)
    return calls_in(tool, text, filling, most=settings.max_calls) if settings.parallel else [filling]


async def _at_once(
    conversation: Sequence[Turn], tools: Sequence[ToolSpec], model: ChoiceModel, settings: ToolChoiceSettings
) -> list[ToolCall]:
    """The tool and its arguments in one answer, under one schema over all tools."""
    forms: list[dict[str, Any]] = [
        {
            "type": "object",
            "properties": {"tool": {"const": tool.name}, "arguments": held(tool.parameters, tool.parameters)},
            "required": ["tool", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    lines = [f"- {described(tool)} Arguments: {orjson.dumps(tool.parameters).decode()}" for tool in tools]
    if settings.none_fits:
        none = {"type": "object", "properties": {"tool": {"const": NO_TOOL}}, "required": ["tool"]}
        forms.append({**none, "additionalProperties": False})
        lines.append(f"- {NO_TOOL}: no tool fits")
    system = "\n".join(["Call the tool that answers the question. Answer with JSON.", *lines])
    text = await model.complete(
        [Turn(role="system", content=system), *conversation],
        schema={"anyOf": forms},
        max_tokens=settings.argument_tokens,
        purpose="choose",
    )
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    tool = next((tool for tool in tools if tool.name == answer.get("tool")), None)
    if tool is None or violation(tool.parameters, answer.get("arguments")) is not None:
        return []
    return [ToolCall(name=tool.name, arguments=answer["arguments"], how=How.CONSTRAINED)]


async def _tools(
    question: str,
    conversation: Sequence[Turn],
    tools: Sequence[ToolSpec],
    model: ChoiceModel,
    settings: ToolChoiceSettings,
) -> list[tuple[ToolSpec, str]]:
    """The tools that fit, each with the part of the question that it is for."""
    if not settings.narrowing:
        tool = await _named(conversation, tools, model, settings)
        return [] if tool is None else [(tool, question)]
    parts = [part.strip() for part in SENTENCE.split(question) if part.strip()] if settings.parallel else []
    parts = parts[:MAX_PARTS] if len(parts) > 1 else []
    whole, *ranked = await rank([question, *parts], tools, model, arguments=settings.candidates)
    if settings.none_fits and whole[0].fit < LEAST_FIT:
        return []
    own = [(best[0].tool, part) for best, part in zip(ranked, parts, strict=True) if best[0].fit >= CERTAIN_FIT]
    if len({tool.name for tool, _ in own}) < 2:
        return [(whole[0].tool, question)]
    joined: list[tuple[ToolSpec, str]] = []
    for tool, part in own:
        if joined and joined[-1][0].name == tool.name:
            joined[-1] = (tool, f"{joined[-1][1]} {part}")
        else:
            joined.append((tool, part))
    return joined


async def _named(
    conversation: Sequence[Turn], tools: Sequence[ToolSpec], model: ChoiceModel, settings: ToolChoiceSettings
) -> ToolSpec | None:
    """The tool that the model names, out of all."""
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
