"""Which tool is chosen, that none may be, and that whatever comes out of choosing is valid."""

import threading
from typing import Any

import jsonschema_rs
import pytest
from agent_service.tool import ToolSpec
from agent_service.tool_choice import Choice, How, ToolChoiceSettings
from agent_service.tool_chooser import choose_tools
from agent_service.tool_narrowing import MOST_FILLED, rank
from fakes.choice_model import ScriptedModel
from hearth_runtime.tasks import Turn
from hypothesis import given
from hypothesis import strategies as st


def tool(name: str, description: str, properties: dict[str, Any], required: list[str] | None = None) -> ToolSpec:
    """A tool whose arguments are all required unless said otherwise."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return ToolSpec(name=name, description=description, parameters=parameters, repeatable=True)


CITY = {"type": "string", "description": "The city."}
WEATHER = tool("city_weather", "Tells the weather in a city.", {"city": CITY})
SUM = tool(
    "sum_numbers",
    "Computes the sum of numbers.",
    {"numbers": {"type": "array", "items": {"type": "number"}, "description": "The numbers."}},
)
LIMITED = tool(
    "set_volume",
    "Sets the volume of the music.",
    {"volume": {"type": "integer", "minimum": 0, "maximum": 10, "description": "The volume."}},
)


def asks(text: str) -> list[Turn]:
    return [Turn(role="user", content=text)]


async def chosen(question: str, *tools: ToolSpec, settings: ToolChoiceSettings | None = None) -> list[tuple[str, Any]]:
    """The calls, where the model need not be asked."""
    choice = await choose_tools(asks(question), tools, ScriptedModel(), settings=settings)
    return [(call.name, call.arguments) for call in choice.calls]


async def test_the_tool_that_fits_is_chosen() -> None:
    assert await chosen("Tell me the weather in the city of Oslo.", SUM, WEATHER) == [
        ("city_weather", {"city": "Oslo"})
    ]
    assert await chosen("Compute the sum of the numbers 1, 2 and 4.", WEATHER, SUM) == [
        ("sum_numbers", {"numbers": [1, 2, 4]})
    ]


async def test_no_tool_may_fit() -> None:
    question = "Who wrote a famous book about whales?"
    assert await choose_tools(asks(question), [SUM], ScriptedModel()) == Choice(calls=())
    told = {"arguments:0": {"numbers": [1]}}
    must = ToolChoiceSettings(none_fits=False)
    choice = await choose_tools(asks(question), [SUM], ScriptedModel(answers=told), settings=must)
    assert [call.name for call in choice.calls] == ["sum_numbers"]


async def test_two_sentences_may_need_two_tools() -> None:
    question = "Tell me the weather in the city of Oslo. Compute the sum of the numbers 1, 2 and 4."
    assert await chosen(question, SUM, WEATHER) == [
        ("city_weather", {"city": "Oslo"}),
        ("sum_numbers", {"numbers": [1, 2, 4]}),
    ]
    one = await chosen(question, SUM, WEATHER, settings=ToolChoiceSettings(parallel=False))
    assert len(one) == 1


async def test_what_was_made_is_not_made_again() -> None:
    question = "Tell me the weather in the cities of Oslo and Rome."
    made = [("city_weather", {"city": "Oslo"})]
    choice = await choose_tools(asks(question), [WEATHER], ScriptedModel(), made=made)
    assert [call.arguments for call in choice.calls] == [{"city": "Rome"}]


async def test_an_argument_that_the_question_does_not_say_is_asked_for() -> None:
    model = ScriptedModel(answers={"arguments:0": {"city": "Lima"}})
    choice = await choose_tools(asks("what is the weather in the city?"), [WEATHER], model)
    assert [(call.arguments, call.how) for call in choice.calls] == [({"city": "Lima"}, How.CONSTRAINED)]
    ((_, messages, schema),) = model.asked
    assert schema["required"] == ["city"]
    assert schema["additionalProperties"] is False
    assert messages[-1].content == "what is the weather in the city?"


async def test_a_value_of_the_question_that_is_not_valid_is_repaired() -> None:
    model = ScriptedModel(answers={"repair:0:0": {"volume": 11}, "repair:0:1": {"volume": 10}})
    choice = await choose_tools(asks("Set the volume of the music to 50."), [LIMITED], model)
    assert [(call.arguments, call.how) for call in choice.calls] == [({"volume": 10}, How.REPAIRED)]
    assert "50 is greater than the maximum of 10" in model.asked[0][1][-1].content


async def test_repair_has_an_end() -> None:
    model = ScriptedModel(answers={f"repair:0:{n}": {"volume": 11} for n in range(3)})
    choice = await choose_tools(asks("Set the volume of the music to 50."), [LIMITED], model)
    assert choice.calls == ()
    assert len(model.asked) == 3


@pytest.mark.parametrize("answer", ["{", "[]", '"x"', "{}", '{"numbers": "all"}', '{"numbers": [1], "extra": 1}'])
async def test_an_answer_that_is_no_call_makes_none(answer: str) -> None:
    closed = ToolSpec(
        name=SUM.name,
        description=SUM.description,
        parameters={**SUM.parameters, "additionalProperties": False},
        repeatable=True,
    )
    model = ScriptedModel(answers={"arguments:0": answer, "repair:0:1": answer, "repair:0:2": answer})
    choice = await choose_tools(asks("Compute the sum of the numbers."), [closed], model)
    assert choice.calls == ()


async def test_the_tool_and_its_arguments_at_once() -> None:
    model = ScriptedModel(answers={"choose": {"tool": "city_weather", "arguments": {"city": "Rome"}}})
    settings = ToolChoiceSettings(two_steps=False)
    choice = await choose_tools(asks("The weather in Rome?"), [SUM, WEATHER], model, settings=settings)
    assert [(call.name, call.arguments) for call in choice.calls] == [("city_weather", {"city": "Rome"})]


async def test_the_model_may_name_the_tool() -> None:
    model = ScriptedModel(answers={"choose": {"tool": "none"}})
    settings = ToolChoiceSettings(narrowing=False)
    assert await choose_tools(asks("The weather in Rome?"), [SUM, WEATHER], model, settings=settings) == Choice(
        calls=()
    )


NAMES = st.sampled_from(["city", "side1", "side2", "from_city", "to_city", "date", "names", "size", "x"])
LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "enum": ["red", "green"]},
        {"type": "string", "maxLength": 5},
        {"type": "integer", "minimum": 3},
        {"type": "number"},
        {"type": "boolean"},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"enum": [1, "one", None]},
        {"const": 7},
        {},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda values: {"type": "object", "properties": values}, st.dictionaries(NAMES, inner, max_size=2)),
    ),
    max_leaves=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
PIECES = "the city Oslo Rome and , . from to 3 4.5 $1M 'a b' [1,2] {x:1} May 3, 2024 size x^2 3x+1 5% Boston, MA ?"
QUESTIONS = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(PIECES.split(" ")),
        max_size=14,
    ).map(" ".join),
)


@given(
    properties=st.dictionaries(NAMES, SCHEMAS, max_size=4),
    question=QUESTIONS,
    answer=JSON,
    must=st.booleans(),
    candidates=st.booleans(),
)
async def test_whatever_comes_out_is_valid(
    properties: dict[str, Any], question: str, answer: Any, must: bool, candidates: bool
) -> None:
    asked = tool("do_it", "Does it.", properties)
    purposes = [f"arguments:{n}" for n in range(8)] + [f"repair:{n}:{turn}" for n in range(8) for turn in range(3)]
    model = ScriptedModel(answers=dict.fromkeys(purposes, answer))
    settings = ToolChoiceSettings(none_fits=not must, candidates=candidates)
    choice = await choose_tools(asks(question), [asked], model, settings=settings)
    assert len(choice.calls) <= settings.max_calls
    for call in choice.calls:
        jsonschema_rs.validate(asked.parameters, call.arguments)


class Watched(dict[str, Any]):
    """A schema that keeps which threads look at it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.threads: set[int] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.threads.add(threading.get_ident())
        return super().get(key, default)


async def test_of_many_tools_the_nearest_are_looked_at_beside_the_loop() -> None:
    schemas = [Watched({"type": "object", "properties": {"city": {"type": "string"}}}) for _ in range(100)]
    tools = [
        ToolSpec(
            name=f"tool_{n}", description="The weather" if n == 70 else "Mend a shoe", parameters=s, repeatable=True
        )
        for n, s in enumerate(schemas)
    ]
    (ranked,) = await rank(["The weather in Lima"], tools, ScriptedModel(), arguments=True)
    assert ranked[0].tool is tools[70]
    assert len(ranked) == 100
    looked_at = [schema for schema in schemas if schema.threads]
    assert schemas[70] in looked_at
    assert len(looked_at) == MOST_FILLED
    assert all(threading.get_ident() not in schema.threads for schema in looked_at)
