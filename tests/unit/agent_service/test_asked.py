"""What a model was asked, and how two such differ."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from agent_service.asked import DESCRIBED_MESSAGES, Asked
from agent_service.inference import Message, ToolCall
from agent_service.tool import ToolSpec
from hearth_runtime.agents import Agent, AgentConfig

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TOOL = ToolSpec(name="clock", description="The time", parameters={"type": "object"}, repeatable=True)


def asked(*contents: str, model: str = "m", schema: str | None = None, tools: Any = (), **options: Any) -> Asked:
    agent = Agent(
        id="a", name="a", description="", model_name=model, config=AgentConfig(temperature=0.5),
        created_at=NOW, updated_at=NOW, is_active=True,
    )  # fmt: skip
    messages = [Message(role="user", content=content) for content in contents]
    return Asked.of(agent, messages, output_schema=schema, tools=tools, options=options)


def test_the_same_is_no_difference() -> None:
    kept = orjson.loads(orjson.dumps(asked("a", "b", tools=[TOOL]).to_json()))
    assert asked("a", "b", tools=[TOOL]).difference(kept) is None


@pytest.mark.parametrize(
    ("now", "part"),
    [
        (asked("a", model="other"), "model"),
        (asked("a", max_tokens=9), "options"),
        (asked("a", temperature=0.0), "options"),
        (asked("a", schema='{"type": "string"}'), "output_schema"),
        (asked("a", tools=[TOOL]), "tools"),
        (asked("b"), "messages.0"),
        (asked("a", "b"), "messages.1"),
        (asked(), "messages.0"),
    ],
)
def test_the_first_part_that_differs_is_told(now: Asked, part: str) -> None:
    difference = now.difference(asked("a").to_json())
    assert difference is not None
    assert difference["part"] == part
    assert difference["then"] != difference["now"]


def test_of_the_present_the_words_are_told() -> None:
    difference = asked("What is it now?").difference(asked("What was it then?").to_json())
    assert difference is not None
    assert difference["then"]["start"] == "What was it then?"
    assert difference["now"]["content"] == "What is it now?"


def test_long_conversations_are_kept_short() -> None:
    many = [str(n) for n in range(3 * DESCRIBED_MESSAGES)]
    then = asked(*many).to_json()
    assert len(then["messages"]) == DESCRIBED_MESSAGES
    assert len(orjson.dumps(then)) < 5000
    difference = asked("new", *many[1:]).difference(then)
    assert difference is not None
    assert difference["part"] == "earlier"
    difference = asked(*many[:-1], "new").difference(then)
    assert difference is not None
    assert difference["part"] == f"messages.{len(many) - 1}"


def test_images_and_tool_calls_count() -> None:
    agent = asked("a")
    plain = Message(role="assistant", content="")
    others = [
        Message(role="assistant", content="", images=(b"1",)),
        Message(role="assistant", content="", images=(b"2",)),
        Message(role="assistant", content="", tool_calls=(ToolCall(name="a", arguments={}),)),
    ]

    def digest(message: Message) -> str:
        made = Asked(
            digest="", model=agent.model, options={}, output_schema=None, tools={}, messages=(message,)
        ).to_json()
        return str(made["messages"][0]["sha256"])

    assert len({digest(message) for message in (plain, *others)}) == 4
