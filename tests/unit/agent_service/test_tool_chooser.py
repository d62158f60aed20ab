"""The tool-calling engine with a scripted model."""

from typing import Any

import pytest
from agent_service.tool import ToolSpec
from agent_service.tool_choice import Choice, How, NativeAnswer, NativeCall, ToolCall, ToolChoiceSettings
from agent_service.tool_chooser import choose_tools
from fakes.choice_model import ScriptedModel
from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelLacksCapability, ModelOutputInvalid
from hearth_runtime.tasks import Turn


def tool(name: str, description: str, properties: dict[str, Any], required: list[str] | None = None) -> ToolSpec:
    """A tool whose arguments are all required unless said otherwise."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return ToolSpec(name=name, description=description, parameters=parameters, repeatable=True)


ADD = tool("add", "Add two numbers and give their sum.", {"a": {"type": "integer"}, "b": {"type": "integer"}})
WEATHER = tool("weather", "The weather in a city today.", {"city": {"type": "string"}})


def asks(text: str) -> list[Turn]:
    return [Turn(role="user", content=text)]


async def test_a_native_call_that_is_valid_is_taken_as_it_is() -> None:
    model = ScriptedModel(native=NativeAnswer(text="", calls=(NativeCall(name="add", arguments={"a": 1, "b": 2}),)))
    choice = await choose_tools(asks("Add 1 and 2."), [ADD, WEATHER], model)
    assert choice == Choice(calls=(ToolCall(name="add", arguments={"a": 1, "b": 2}, how=How.NATIVE),))
    assert model.asked == []


async def test_a_native_answer_without_calls_is_the_answer() -> None:
    model = ScriptedModel(native=NativeAnswer(text="Hello!", calls=()))
    assert await choose_tools(asks("Hello"), [ADD], model) == Choice(calls=(), text="Hello!")


async def test_a_native_call_that_is_not_valid_is_repaired_with_the_validators_message() -> None:
    model = ScriptedModel(
        native=NativeAnswer(text="", calls=(NativeCall(name="add", arguments={"a": "one", "b": 2}),)),
        answers={"repair:0:0": {"a": "still wrong", "b": 2}, "repair:0:1": {"a": 1, "b": 2}},
    )
    choice = await choose_tools(asks("Add one and two."), [ADD, WEATHER], model)
    assert choice.calls == (ToolCall(name="add", arguments={"a": 1, "b": 2}, how=How.REPAIRED),)
    assert [purpose for purpose, _, _ in model.asked] == ["repair:0:0", "repair:0:1"]
    assert '"one" is not of type "integer"' in model.asked[0][1][-1].content
    assert '"still wrong" is not of type "integer"' in model.asked[1][1][-1].content


async def test_without_tools_there_is_nothing_to_choose() -> None:
    assert await choose_tools(asks("Hello"), [], ScriptedModel()) == Choice(calls=())


@pytest.mark.parametrize("error", [ModelOutputInvalid("unreadable"), ModelLacksCapability("no tools")])
async def test_a_model_that_fails_natively_is_led(error: HearthError) -> None:
    model = ScriptedModel(native=error, answers={"arguments:0": {}})
    choice = await choose_tools(asks("Ping the server now."), [tool("ping", "Ping the server now.", {})], model)
    assert [(call.name, call.arguments) for call in choice.calls] == [("ping", {})]
    assert choice.calls[0].how is not How.NATIVE


async def test_a_host_that_is_away_is_no_reason_to_lead() -> None:
    with pytest.raises(ModelHostUnavailable):
        await choose_tools(asks("Hello"), [ADD], ScriptedModel(native=ModelHostUnavailable("away")))


async def test_no_two_questions_of_a_choice_have_one_purpose() -> None:
    asked: list[str] = []

    def never(messages: Any, schema: Any) -> dict[str, Any]:
        asked.append(messages[-1].content)
        return {}

    places = [f"{phase}:{place}" for phase in ("repair", "arguments", "led:repair") for place in range(4)]
    purposes = {*places, *(f"{place}:{turn}" for place in places for turn in range(4))}
    calls = tuple(NativeCall(name="add", arguments={"a": word, "b": word}) for word in ("one", "two"))
    model = ScriptedModel(native=NativeAnswer(text="", calls=calls), answers=dict.fromkeys(purposes, never))
    shout = tool("shout", "Shout a word at a colour.", {"word": {"type": "string"}, "colour": {"enum": [1]}})
    settings = ToolChoiceSettings(none_fits=False)
    assert await choose_tools(asks("Add the numbers. Shout."), [ADD, shout], model, settings=settings) == Choice(
        calls=()
    )
    purposes_asked = [purpose for purpose, _, _ in model.asked]
    assert len(purposes_asked) > 6
    assert len(set(purposes_asked)) == len(purposes_asked)


async def test_what_leading_adds_has_room_where_a_native_call_is_repaired_or_the_model_is_led() -> None:
    fits = 0

    async def fitted() -> list[Turn]:
        nonlocal fits
        fits += 1
        return asks("Add 1 and 2, shortly.")

    long = asks("Add 1 and 2. " + "Please. " * 1000)
    good = NativeCall(name="add", arguments={"a": 1, "b": 2})
    await choose_tools(long, [ADD], ScriptedModel(native=NativeAnswer(text="", calls=(good,))), fitted=fitted)
    assert fits == 0
    bad = NativeAnswer(text="", calls=(NativeCall(name="add", arguments={"a": "one", "b": 2}),))
    purposes = [f"{phase}:0:{turn}" for phase in ("repair", "led:repair") for turn in range(3)]
    purposes.append("arguments:0")
    for native in (bad, ModelOutputInvalid("unreadable"), None):
        model = ScriptedModel(native=native, answers={purpose: {} for purpose in purposes})
        fits = 0
        await choose_tools(long, [ADD], model, fitted=fitted)
        assert fits == 1
        assert all("Please." not in turn.content for _, messages, _ in model.asked for turn in messages)
