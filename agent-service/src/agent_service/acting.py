"""Choosing tool calls with the agent's model, whatever it can: what the workflows that act have in common."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from hearth_runtime.errors import ModelOutputInvalid
from hearth_runtime.events import EventLevel
from hearth_runtime.tasks import Turn

from agent_service.budgets import Limits, Spent
from agent_service.inference import Message, ToolCall
from agent_service.model_calls import Answer, ModelCalls
from agent_service.prompt import Prompt
from agent_service.tool import ToolSpec
from agent_service.tool_choice import NativeAnswer, NativeCall, ToolChoiceSettings
from agent_service.tool_chooser import choose_tools
from agent_service.toolbox import DATA_ONLY, Observation, PlannedCall
from agent_service.workflow import RunContext

# What leading a model adds to its prompt: a schema, an example, the arguments themselves.
CHOICE_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do next: make `calls`; or none, since the model answered with `answer`, or since a limit is reached."""

    calls: tuple[PlannedCall, ...]
    answer: Answer | None
    ended_by: str | None
    spent: Spent


async def decide(
    context: RunContext,
    call_id: str,
    prompt: Prompt,
    *,
    tools: Sequence[ToolSpec],
    observations: Sequence[Observation],
    limits: Limits,
    spent: Spent,
    may_do_without: bool = True,
) -> Decision:
    """Which calls of `tools` come next, after those that gave `observations`; some, unless the model `may_do_without`.

    A call that was made as often as `limits` lets it is not made again; where the model wants nothing else, it goes
    round in circles, and that ends its acting ("repeated_calls").
    """
    if (reached := limits.reached(spent)) is not None:
        return Decision(calls=(), answer=None, ended_by=reached, spent=Spent())
    native = await context.model_calls.can_call_tools()
    model = ChoosingModel(
        context.model_calls, call_id, native=native, prompt=observing(prompt, observations, native=True)
    )
    led = observing(prompt, observations, native=False)

    async def fitted() -> Sequence[Turn]:
        return _conversation(await context.model_calls.fitted(led, max_tokens=CHOICE_TOKENS))

    choice = await choose_tools(
        _conversation(led),
        tools,
        model,
        settings=ToolChoiceSettings(none_fits=may_do_without),
        made=[(seen.call.tool, seen.call.arguments) for seen in observations],
        fitted=fitted,
    )
    calls = [
        PlannedCall(id=f"{call_id}:{index}", tool=call.name, arguments=call.arguments, how=call.how)
        for index, call in enumerate(choice.calls)
    ]
    made = Counter(observation.call.same for observation in observations)
    fresh: list[PlannedCall] = []
    for call in calls:
        if made[call.same] <= limits.repeated_calls:
            fresh.append(call)
            made[call.same] += 1
    allowed = fresh[: limits.tool_calls - spent.tool_calls]
    await _tell(context, calls, fresh, allowed)
    return Decision(
        calls=tuple(allowed),
        # What a model says beside a call that came to nothing is no answer.
        answer=None if choice.text is None else model.answer,
        ended_by="repeated_calls" if calls and not fresh else None,
        spent=model.spent + Spent(steps=1),
    )


async def _tell(
    context: RunContext, calls: Sequence[PlannedCall], fresh: Sequence[PlannedCall], allowed: Sequence[PlannedCall]
) -> None:
    if not calls:
        await context.events.log(EventLevel.INFO, "No further tool call is needed.", code="no_tool")
    if len(fresh) < len(calls):
        await context.events.log(
            EventLevel.WARNING, "The model asks for calls that were made already.", code="repeated_calls"
        )
    if len(allowed) < len(fresh):
        await context.events.log(
            EventLevel.WARNING,
            f"{len(fresh) - len(allowed)} calls are left out: config.budget.max_tool_calls is reached.",
            code="budget",
        )


def observing(prompt: Prompt, observations: Sequence[Observation], *, native: bool) -> Prompt:
    """The prompt with what the calls gave, in the words that the model knows."""
    if not observations:
        return prompt
    messages: list[Message] = []
    for observation in observations:
        call = observation.call
        if native:
            messages += [
                Message(role="assistant", content="", tool_calls=(ToolCall(name=call.tool, arguments=call.arguments),)),
                Message(role="tool", content=observation.as_text(), tool_name=call.tool),
            ]
        else:
            messages.append(Message(role="user", content=observation.as_text()))
    return prompt.with_rule(DATA_ONLY).observing(*messages)


def _conversation(prompt: Prompt) -> list[Turn]:
    """The prompt for a model that is led: what was seen stands before the question, which is the last message."""
    system = "\n\n".join(message.content for message in (*prompt.system, *prompt.observed))
    rest = replace(prompt, system=(), observed=()).messages()
    return [
        *([Turn(role="system", content=system)] if system else []),
        *(Turn(role=message.role, content=message.content) for message in rest),
    ]


class ChoosingModel:
    """The agent's model as the engine that chooses tools sees it.

    `prompt` is what a model that can call tools is asked. `spent` is what all that took, `answer` what such a model
    said, which the client has seen live.
    """

    def __init__(self, calls: ModelCalls, call_id: str, *, native: bool, prompt: Prompt) -> None:
        self._calls = calls
        self._call_id = call_id
        self._prompt = prompt
        self.native = native
        self.spent = Spent()
        self.answer: Answer | None = None

    async def complete(self, messages: Sequence[Turn], *, schema: dict[str, Any], max_tokens: int, purpose: str) -> str:
        """JSON text that the schema allows."""
        answer = await self._calls.make(
            f"{self._call_id}:{purpose}",
            Prompt(question=tuple(Message(role=turn.role, content=turn.content) for turn in messages)),
            output_schema=orjson.dumps(schema).decode(),
            max_tokens=max_tokens,
            temperature=0.0,
        )
        self.spent += answer.spent
        return answer.text

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector for each text."""
        return await self._calls.embed(texts)

    async def call_tools(self, messages: Sequence[Turn], tools: Sequence[ToolSpec]) -> NativeAnswer:
        """What the model says, and calls, that is told of the tools."""
        try:
            self.answer = await self._calls.make(f"{self._call_id}:native", self._prompt, tools=tools, shown=True)
        except ModelOutputInvalid as error:
            self.spent += Spent.of_failed(error)
            raise
        self.spent += self.answer.spent
        return NativeAnswer(
            text=self.answer.text,
            calls=tuple(NativeCall(name=call.name, arguments=call.arguments) for call in self.answer.tool_calls),
        )
