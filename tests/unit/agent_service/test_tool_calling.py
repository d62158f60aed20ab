"""One call of a tool: whatever goes wrong with it is a result that a model can read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agent_service.requests import RunWaits
from agent_service.tool import ToolResult, ToolSpec
from agent_service.tool_calling import MAX_DATA_BYTES, call_tool
from hearth_runtime.errors import InvalidArgument, Unavailable
from hearth_runtime.tasks import Pending, PendingKind
from prometheus_client import REGISTRY

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
}


class Weather:
    """A tool that does what the test says."""

    def __init__(self, act: Callable[[dict[str, Any]], Awaitable[ToolResult]], **fields: Any) -> None:
        self._act = act
        self.calls: list[tuple[dict[str, Any], str]] = []
        self.spec = ToolSpec(
            **{"name": "weather", "description": "", "parameters": PARAMETERS, "repeatable": True, **fields}
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        self.calls.append((arguments, call_id))
        return await self._act(arguments)


async def sunny(_: dict[str, Any]) -> ToolResult:
    return ToolResult(content="sunny", data={"sky": "clear"})


def raising(error: BaseException) -> Callable[[dict[str, Any]], Awaitable[ToolResult]]:
    async def act(_: dict[str, Any]) -> ToolResult:
        raise error

    return act


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("hearth_tool_calls_total", {"tool": "weather", "outcome": outcome}) or 0.0


async def test_a_result_comes_as_the_tool_gave_it() -> None:
    tool = Weather(sunny)
    before = count("ok")
    assert await call_tool(tool, {"city": "Oslo"}, call_id="c1") == ToolResult(content="sunny", data={"sky": "clear"})
    assert tool.calls == [({"city": "Oslo"}, "c1")]
    assert count("ok") == before + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, '"city" is a required property'),
        ({"city": 5}, 'city: 5 is not of type "string"'),
        ({"city": "Oslo", "days": 9}, "days: 9 is greater than the maximum of 7"),
        ({"city": "Oslo", "country": "NO"}, "country"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_of_and_the_tool_is_not_called(
    arguments: dict[str, Any], words: str
) -> None:
    tool = Weather(sunny)
    result = await call_tool(tool, arguments, call_id="c")
    assert result.is_error
    assert words in result.content
    assert tool.calls == []


async def test_parameters_that_are_no_schema_are_the_tool_s_fault() -> None:
    for parameters, words in (
        ({"type": 7}, "no JSON Schema"),
        ({"$ref": "https://elsewhere.test/schema"}, "refers to"),
    ):
        result = await call_tool(Weather(sunny, parameters=parameters), {}, call_id="c")
        assert result.is_error
        assert words in result.content


async def test_a_tool_that_takes_too_long_is_stopped_and_says_so() -> None:
    stopped = asyncio.Event()

    async def hang(_: dict[str, Any]) -> ToolResult:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    result = await call_tool(Weather(hang, timeout_seconds=0.02), {"city": "Oslo"}, call_id="c")
    assert result.is_error
    assert "within 0.02 seconds" in result.content
    assert stopped.is_set()


async def test_a_time_out_of_the_tool_s_own_is_no_time_out_of_ours() -> None:
    result = await call_tool(Weather(raising(TimeoutError("upstream"))), {"city": "Oslo"}, call_id="c")
    assert result.is_error
    assert "TimeoutError: upstream" in result.content


async def test_what_a_tool_raises_is_a_result() -> None:
    for error, words in (
        (ValueError("no such city"), "ValueError: no such city"),
        (InvalidArgument("Use ISO."), "Use ISO."),
    ):
        result = await call_tool(Weather(raising(error)), {"city": "Oslo"}, call_id="c")
        assert result.is_error
        assert words in result.content


async def test_what_is_to_be_tried_again_or_waited_for_passes_through() -> None:
    pending = Pending(id="c", kind=PendingKind.QUESTION, name="ask", arguments={})
    for error in (Unavailable("Later."), RunWaits(pending), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await call_tool(Weather(raising(error)), {"city": "Oslo"}, call_id="c")


async def test_what_cannot_be_tried_again_is_told_to_the_model() -> None:
    tool = Weather(raising(Unavailable("The server is away.")), repeatable=False)
    result = await call_tool(tool, {"city": "Oslo"}, call_id="c")
    assert result == ToolResult(content="The server is away.", is_error=True)


async def test_a_long_result_is_cut_and_says_so() -> None:
    async def talk(_: dict[str, Any]) -> ToolResult:
        return ToolResult(content="abc" * 10, is_error=True, data=["x" * MAX_DATA_BYTES])

    result = await call_tool(Weather(talk, result_characters=4), {"city": "Oslo"}, call_id="c")
    assert result.content == "abca\n[cut: the first 4 of 30 characters]"
    assert result.is_error
    assert result.data is None
    result = await call_tool(Weather(talk, result_characters=30), {"city": "Oslo"}, call_id="c")
    assert result.content == "abc" * 10


async def test_data_that_is_no_json_is_left_out() -> None:
    async def odd(_: dict[str, Any]) -> ToolResult:
        return ToolResult(content="x", data={1j})

    assert await call_tool(Weather(odd), {"city": "Oslo"}, call_id="c") == ToolResult(content="x")
