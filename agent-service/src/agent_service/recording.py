"""What answers the calls of a run besides the world: nothing, the edits of a fork, or the record of another run.

Whatever a run takes from the world goes through here, so that a replay can be given the same: model calls, tool calls,
what is noted of its surroundings, and the time that steps take.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import orjson
from hearth_runtime.checkpoints import NOTE
from hearth_runtime.errors import InvalidArgument, ModelOutputInvalid

from agent_service.asked import NOTING, Asked
from agent_service.inference import Done, ToolCall
from agent_service.tool import Tool
from agent_service.tool_calls import Given, ToolCalls

# The host of an answer that was written by hand.
BY_HAND = "fork"
# Under this name it is noted what tools there are.
TOOLS = "tools"
MAX_ANSWERS = 100
MODEL_FIELDS = frozenset({"text", "data", "tool_calls"})
TOOL_FIELDS = frozenset({"content", "is_error", "data"})
VALUE_FIELDS = frozenset({"result"})


@dataclass(frozen=True, kw_only=True)
class RecordedAnswer:
    """What a model said."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    done: Done


class Recording(Protocol):
    """Where a run asks before it asks the world."""

    async def model_answer(self, call_id: str, asked: Asked) -> RecordedAnswer | None:
        """The answer to the model call; None where the model is to be asked."""
        ...

    async def tool_result(self, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Given | None:
        """The result of the tool call; None where it is to be made."""
        ...

    async def note(self, name: str, produce: Callable[[], Awaitable[Any]]) -> Any:
        """What `produce` gives, a JSON value, or gave in an earlier attempt: something of the run's surroundings that
        it depends on. `name`, of at most 200 characters, is the same in every attempt."""
        ...

    def step_seconds(self, step: str) -> float | None:
        """How long the step took; None where it is to be measured."""
        ...

    def tools(self, opened: AbstractAsyncContextManager[Sequence[Tool]]) -> AbstractAsyncContextManager[Sequence[Tool]]:
        """The run's tools: those of `opened`, or those that there were."""
        ...

    async def output_of(self, run: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """What the run gives, with what the recording has to say of it."""
        ...


class Live:
    """A run like any other: all is asked of the world, and what is noted is kept in the journal of tool calls."""

    def __init__(self, journal: ToolCalls) -> None:
        self._journal = journal

    async def model_answer(self, call_id: str, asked: Asked) -> RecordedAnswer | None:
        return None

    async def tool_result(self, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Given | None:
        return None

    async def note(self, name: str, produce: Callable[[], Awaitable[Any]]) -> Any:
        async def noting() -> Any:
            token = NOTING.set(True)
            try:
                return await produce()
            finally:
                NOTING.reset(token)

        return await self._journal.make(
            call_id=note_id(name), tool_name=NOTE, arguments={}, repeatable=True, call=noting
        )

    def step_seconds(self, step: str) -> float | None:
        return None

    @asynccontextmanager
    async def tools(self, opened: AbstractAsyncContextManager[Sequence[Tool]]) -> AsyncIterator[Sequence[Tool]]:
        async with opened as tools:
            specs = [asdict(tool.spec) for tool in tools]

            async def produce() -> list[dict[str, Any]]:
                return specs

            await self.note(TOOLS, produce)
            yield tools

    async def output_of(self, run: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        return await run


class Edited(Live):
    """A fork: some calls have the answers that whoever forked the task wrote. The output names those that nobody asked
    for, where one attempt made the whole run: of others it is not known what they asked for."""

    def __init__(self, journal: ToolCalls, answers: dict[str, dict[str, Any]], *, is_whole: bool) -> None:
        super().__init__(journal)
        self._answers = answers
        self._unused = set(answers) if is_whole else set()

    async def model_answer(self, call_id: str, asked: Asked) -> RecordedAnswer | None:
        answer = self._answers.get(call_id)
        if answer is None:
            return None
        self._unused.discard(call_id)
        if not set(answer) <= MODEL_FIELDS:
            raise _unfit(call_id, "is of a model: its answer has `text`, `data` or `tool_calls`")
        data = orjson.dumps(answer["data"]).decode() if "data" in answer else None
        return RecordedAnswer(
            text=answer.get("text", data or ""),
            tool_calls=tuple(ToolCall(**call) for call in answer.get("tool_calls", [])),
            done=_said_by_hand(asked.model, data),
        )

    async def tool_result(self, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Given | None:
        answer = self._answers.get(call_id)
        if answer is None:
            return None
        self._unused.discard(call_id)
        if not ("result" in answer or set(answer) <= TOOL_FIELDS):
            raise _unfit(call_id, "is of a tool: its answer has `content`, `is_error` and `data`, or `result`")

        async def written() -> Any:
            if "result" in answer:
                return answer["result"]
            return {
                "content": answer.get("content", ""),
                "is_error": answer.get("is_error", False),
                "data": answer.get("data"),
            }

        # A replay of the fork finds it where it finds the results of calls.
        value = await self._journal.make(
            call_id=call_id, tool_name=tool_name, arguments=arguments, repeatable=True, call=written
        )
        return Given(value=value)

    async def output_of(self, run: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        output = await run
        return {**output, "unused_answers": sorted(self._unused)} if self._unused else output


def data_of(said: RecordedAnswer, output_schema: str | None) -> Any:
    """The answer as JSON. Raises ModelOutputInvalid where it is to be JSON and is not, as one that was written by hand
    may be."""
    if said.done.data is not None:
        return orjson.loads(said.done.data)
    if output_schema is None or said.tool_calls or said.done.host != BY_HAND:
        return None
    try:
        return orjson.loads(said.text)
    except orjson.JSONDecodeError as error:
        raise ModelOutputInvalid(f"The answer that was given for the call is no JSON: {error}.") from error


def checked_answers(answers: dict[str, Any]) -> dict[str, Any]:
    """The answers of a fork, where they are such. Raises InvalidArgument."""
    if len(answers) > MAX_ANSWERS:
        raise InvalidArgument(f"answers has {len(answers)} entries; at most {MAX_ANSWERS} are taken.")
    for call_id, answer in answers.items():
        if not 0 < len(call_id) <= 255 or not isinstance(answer, dict) or not answer:
            raise _unfit(call_id[:255], "needs an object with what answers it")
        if not any(set(answer) <= fields for fields in (MODEL_FIELDS, TOOL_FIELDS, VALUE_FIELDS)):
            raise _unfit(
                call_id,
                "takes `text`, `data` and `tool_calls` (of a model), `content`, `is_error` and `data` (of a tool), or "
                "`result`",
            )
        for field, kind in (("text", str), ("content", str), ("is_error", bool), ("tool_calls", list)):
            if field in answer and not isinstance(answer[field], kind):
                raise _unfit(call_id, f"has a `{field}` of the wrong type")
        for call in answer.get("tool_calls", []):
            match call:
                case {"name": str(), "arguments": dict(), **rest} if not rest:
                    continue
            raise _unfit(call_id, "has `tool_calls` that are not of the form {name, arguments}")
    return answers


def note_id(name: str) -> str:
    """The call id under which a note is kept."""
    return f"{NOTE}:{name}"


def _said_by_hand(model: str, data: str | None) -> Done:
    return Done(
        model=model,
        host=BY_HAND,
        finish_reason="edited",
        prompt_tokens=0,
        completion_tokens=0,
        queue_seconds=0.0,
        load_seconds=0.0,
        first_token_seconds=0.0,
        total_seconds=0.0,
        data=data,
    )


def _unfit(call_id: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"answers: the call {call_id!r} {what}.")
