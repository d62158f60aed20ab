"""What a question says of a tool's arguments, and of how many calls it speaks."""

import time
from typing import Any

import orjson
import pytest
from agent_service.tool import ToolSpec
from agent_service.tool_choice import ToolChoiceSettings
from agent_service.tool_chooser import choose_tools
from agent_service.tool_examples import example
from agent_service.tool_filling import fill
from agent_service.tool_parts import calls_in
from agent_service.tool_schemas import held
from fakes.choice_model import ScriptedModel
from hearth_runtime.tasks import Turn

type Properties = dict[str, dict[str, Any]]


def tool(name: str, description: str, properties: Properties, required: list[str] | None = None) -> ToolSpec:
    """A tool whose arguments are all required unless said otherwise."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }
    return ToolSpec(name=name, description=description, parameters=parameters, repeatable=True)


def text(description: str, **rest: Any) -> dict[str, Any]:
    """A text argument."""
    return {"type": "string", "description": description, **rest}


def number(description: str, kind: str = "number") -> dict[str, Any]:
    """A numeric argument."""
    return {"type": kind, "description": description}


WEATHER = tool(
    "get_weather",
    "Get the weather of a city.",
    {"city": text("The city."), "unit": text("The unit.", enum=["celsius", "fahrenheit"])},
    ["city"],
)
AREA = tool(
    "rectangle_area",
    "Compute the area of a rectangle.",
    {"width": number("The width in meters."), "height": number("The height in meters.")},
)
FACTORIAL = tool("factorial", "The factorial of a number.", {"number": number("The number.", "integer")})
MESSAGE = tool(
    "send_message",
    "Send a message to a person.",
    {"recipient": text("Name of the person."), "text": text("What to say.")},
)
FLIGHT = tool(
    "book_flight",
    "Book a flight.",
    {
        "from_city": text("Departure city."),
        "to_city": text("Destination city."),
        "date": text("Date of the flight, DD/MM/YYYY."),
    },
)
TIMER = tool("set_timer", "Set a timer.", {"minutes": number("Length of the timer in minutes.", "integer")})
POPULATION = tool(
    "population",
    "The population of a country in a year.",
    {"country": text("The country."), "year": number("The year.", "integer")},
)
LOAN = tool(
    "loan_payment",
    "The monthly payment of a loan.",
    {
        "principal": number("The amount of the loan in dollars.", "integer"),
        "rate": number("The annual interest rate as a decimal."),
        "years": number("The number of years.", "integer"),
        "balloon": number("A last payment. Optional.", "integer"),
    },
    ["principal", "rate", "years"],
)
TRIANGLE = tool(
    "triangle_area",
    "The area of a triangle.",
    {f"side{n}": number(f"The length of side {n}.", "integer") for n in (1, 2, 3)},
)
SORT = tool(
    "sort_names",
    "Sort a list of names.",
    {"names": {"type": "array", "items": {"type": "string"}, "description": "The names to sort."}},
)
DISTANCE = tool(
    "point_distance",
    "The distance between two points.",
    {
        "point_a": {"type": "array", "items": {"type": "number"}, "description": "The first point."},
        "point_b": {"type": "array", "items": {"type": "number"}, "description": "The second point."},
    },
)
DERIVE = tool(
    "derive",
    "The derivative of a function at a point.",
    {"function": text("The function to derive."), "point": number("Where.", "integer")},
)
ROOM = tool(
    "book_room",
    "Book a hotel room.",
    {
        "hotel_name": text("The hotel."),
        "nights": number("How many nights.", "integer"),
        "breakfast": {"type": "boolean", "description": "Whether breakfast is wanted."},
        "budget": {
            "type": "object",
            "properties": {"min": number("At least.", "integer"), "max": number("At most.", "integer")},
            "description": "What a night may cost.",
        },
    },
    ["hotel_name", "nights"],
)


@pytest.mark.parametrize(
    ("asked", "question", "arguments"),
    [
        (WEATHER, "What is the weather in Oslo?", {"city": "Oslo"}),
        (WEATHER, "What's the weather like in New York, in Fahrenheit?", {"city": "New York", "unit": "fahrenheit"}),
        (AREA, "Area of a rectangle that is 3 meters high and 4 meters wide?", {"width": 4, "height": 3}),
        (LOAN, "Payment for $250,000 at 5% over 30 years", {"principal": 250_000, "rate": 0.05, "years": 30}),
        (LOAN, "A loan of $1.5M for 10 years at 3.5%", {"principal": 1_500_000, "rate": 0.035, "years": 10}),
        (
            TRIANGLE,
            "What is the area of a triangle with three sides of 3, 4 and 5?",
            {f"side{n}": n + 2 for n in (1, 2, 3)},
        ),
        (SORT, "Sort these names: ['Sam', 'Alice', 'Jack']", {"names": ["Sam", "Alice", "Jack"]}),
        (DISTANCE, "How far is (1, 2) from (4.5, 6)?", {"point_a": [1, 2], "point_b": [4.5, 6]}),
        (DERIVE, "Derive the function 3x^2 + 2 at 5.", {"function": "3x^2 + 2", "point": 5}),
        (MESSAGE, "Send 'See you at 8' to Anna.", {"recipient": "Anna", "text": "See you at 8"}),
        (POPULATION, "How many people lived in France in 1954?", {"country": "France", "year": 1954}),
        (
            FLIGHT,
            "Book a flight from Paris to Rome on May 3, 2024.",
            {"from_city": "Paris", "to_city": "Rome", "date": "03/05/2024"},
        ),
        (
            ROOM,
            "Book the Grand Hotel for two nights with breakfast.",
            {"hotel_name": "Grand Hotel", "nights": 2, "breakfast": True},
        ),
    ],
)
def test_the_question_says_the_arguments(asked: ToolSpec, question: str, arguments: dict[str, Any]) -> None:
    assert fill(asked, question).best == arguments


@pytest.mark.parametrize(
    ("asked", "question", "calls"),
    [
        (WEATHER, "What is the weather in Oslo and in Rome?", [{"city": "Oslo"}, {"city": "Rome"}]),
        (WEATHER, "Weather in Oslo, Madrid and Rome?", [{"city": "Oslo"}, {"city": "Madrid"}, {"city": "Rome"}]),
        (WEATHER, "What is the weather in Boston, MA?", [{"city": "Boston, MA"}]),
        (TIMER, "Set timers for 5, 10 and 15 minutes.", [{"minutes": 5}, {"minutes": 10}, {"minutes": 15}]),
        (TIMER, "Set a timer for 5 minutes and another for 10 minutes.", [{"minutes": 5}, {"minutes": 10}]),
        (FACTORIAL, "What are the factorials of 5, 7 and 9?", [{"number": 5}, {"number": 7}, {"number": 9}]),
        (TRIANGLE, "The area of a triangle with sides 3, 4 and 5", [{"side1": 3, "side2": 4, "side3": 5}]),
        (
            AREA,
            "The area of a rectangle with width 3 and height 4, then again with width 5.",
            [{"width": 3, "height": 4}, {"width": 5, "height": 4}],
        ),
        (
            AREA,
            "The area of a rectangle 3 meters wide and 4 meters high, and of one 5 meters wide and 6 meters high?",
            [{"width": 3, "height": 4}, {"width": 5, "height": 6}],
        ),
        (
            MESSAGE,
            "Send 'hello' to Anna and 'bye' to Bob.",
            [{"recipient": "Anna", "text": "hello"}, {"recipient": "Bob", "text": "bye"}],
        ),
        (
            POPULATION,
            "Give me the population of India and China in 2010 and 2015 respectively.",
            [{"country": "India", "year": 2010}, {"country": "China", "year": 2015}],
        ),
    ],
)
def test_a_question_may_ask_for_several_calls(asked: ToolSpec, question: str, calls: list[dict[str, Any]]) -> None:
    assert [one.best for one in calls_in(asked, question, fill(asked, question), most=8)] == calls


def test_no_more_calls_than_are_taken() -> None:
    question = "What are the factorials of 5, 7 and 9?"
    assert len(calls_in(FACTORIAL, question, fill(FACTORIAL, question), most=2)) == 1


def test_a_tool_without_arguments_needs_none() -> None:
    assert fill(tool("now", "The time.", {}), "What time is it in Oslo?").best == {}


NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    "required": ["name"],
}
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}},
    "required": ["root"],
    "$defs": {"Node": NODE},
}
SELF = {"type": "object", "properties": {"me": {"$ref": "#"}, "name": {"type": "string"}}, "required": ["me"]}
NAMES = [f"p{n}" for n in range(10)]
MANY = {"type": "object", "properties": {name: {"$ref": "#"} for name in NAMES}, "required": NAMES}
LISTS = {
    "type": "object",
    "properties": {"lists": {"$ref": "#/$defs/List"}},
    "required": ["lists"],
    "$defs": {"List": {"type": "array", "items": {"$ref": "#/$defs/List"}}},
}
# Each of these kinds of node may have nodes of all the others.
KINDS = {
    "type": "object",
    "properties": {name: {"$ref": f"#/$defs/{name}"} for name in NAMES},
    "required": NAMES,
    "$defs": {
        name: {"type": "object", "properties": {f"of_{other}": {"$ref": f"#/$defs/{other}"} for other in NAMES}}
        for name in NAMES
    },
}


@pytest.mark.parametrize("parameters", [TREE, SELF, MANY, LISTS, KINDS])
async def test_a_schema_that_refers_to_itself_ends(parameters: dict[str, Any]) -> None:
    spec = ToolSpec(name="tree", description="Make a tree.", parameters=parameters, repeatable=True)
    began = time.monotonic()
    for two_steps in (True, False):
        model = ScriptedModel(answers={f"repair:0:{turn}": {} for turn in range(3)} | {"arguments:0": {}, "choose": {}})
        settings = ToolChoiceSettings(none_fits=False, two_steps=two_steps, omit_optional=False)
        await choose_tools([Turn(role="user", content="Make a tree named Oak.")], [spec], model, settings=settings)
        assert all(len(orjson.dumps(schema)) < 200_000 for _, _, schema in model.asked)
        assert all(len(turn.content) < 20_000 for _, messages, _ in model.asked for turn in messages)
    assert time.monotonic() - began < 5


def test_an_object_within_itself_has_no_example_and_no_value_of_its_own() -> None:
    assert example(TREE, ["root"])[1] == {"root": {"name": "alpha", "children": []}}
    spec = ToolSpec(name="tree", description="Make a tree.", parameters=SELF, repeatable=True)
    assert "me" not in fill(spec, "Make a tree with the name 'Oak'.").best
    spec = ToolSpec(name="tree", description="Make a tree.", parameters=TREE, repeatable=True)
    assert fill(spec, "Make a tree with the name 'Oak'.").best == {"root": {"name": "Oak"}}


def test_what_is_held_of_a_schema_is_as_deep_as_there_is_room() -> None:
    part = held(TREE, {"$ref": "#/$defs/Node"})
    depth = 0
    while part:
        part, depth = part["properties"]["children"].get("items"), depth + 1
    assert depth == 5
    many = held(MANY, MANY)["properties"]["p0"]
    assert list(many["properties"]) == NAMES
