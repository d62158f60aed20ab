"""inference-service as agent-service calls it: one call's own options, vectors, what a model can do."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from agent_service.inference import EMBED_TEXTS, Done, Message, Models, Notice, ToolCall
from agent_service.tool import ToolSpec
from fakes.ollama import Behaviour, FakeOllama, called
from hearth_runtime.agents import Agent, AgentConfig
from hearth_runtime.errors import InvalidArgument, ModelLacksCapability, ModelNotFound
from hearth_runtime.tasks import Turn
from servers.inference import inference_on
from system.waiting import eventually

ABLE = ("completion", "tools", "vision")
OWN = '{"type":"object","properties":{"own":{"type":"integer"}}}'
OTHER = '{"type":"object","properties":{"other":{"type":"integer"}}}'
HELLO = [Turn(role="user", content="Hello")]
TOOL = ToolSpec(name="weather", description="Tells it.", parameters={"type": "object"}, repeatable=True)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def agent(**config: Any) -> Agent:
    return Agent(
        id="a",
        name="",
        description="",
        model_name="m",
        config=AgentConfig(**config),
        created_at=NOW,
        updated_at=NOW,
        is_active=True,
    )


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture
async def models(fake: FakeOllama) -> AsyncIterator[Models]:
    async with inference_on(fake.url, model_list_seconds=0) as inference:
        yield Models(inference.channel)


async def heard(
    models: Models, agent: Agent, messages: Any = HELLO, *, output_schema: str | None = None, **options: Any
) -> list[str | Notice | ToolCall | Done]:
    call = models.chat(agent, messages, timeout_seconds=10, output_schema=output_schema, **options)
    return [item async for item in call]


async def test_what_a_call_gives_goes_before_what_the_agent_has(models: Models, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("{}",), capabilities=("completion", "thinking")))
    own = agent(temperature=0.1, seed=1, max_tokens=10, top_p=0.5, output_schema=OWN)
    await heard(models, own)
    await heard(models, own, temperature=0.0, max_tokens=20, output_schema=OTHER)
    await heard(models, own, think=False)
    first, second, third = (received.body for received in fake.requests["m"])
    assert first["options"] == {"temperature": 0.1, "top_p": 0.5, "seed": 1, "num_predict": 10}
    assert second["options"] == {"temperature": 0.0, "top_p": 0.5, "seed": 1, "num_predict": 20}
    assert list(second["format"]["properties"]) == ["other"]
    assert (third["options"], "format" in first, "format" in third) == (first["options"], False, False)
    assert ("think" in first, third["think"]) == (False, False)


async def test_calls_and_their_results(models: Models, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("Hm",), tool_calls=(called("weather", city="Oslo"),), capabilities=ABLE))
    *items, done = await heard(models, agent(), tools=[TOOL])
    call = ToolCall(name="weather", arguments={"city": "Oslo"})
    assert items == ["Hm", call]
    assert isinstance(done, Done)
    assert (done.data, done.finish_reason) == (None, "stop")
    result = Message(role="tool", content="sun", tool_name="weather")
    await heard(models, agent(), [*HELLO, Message(role="assistant", content="", tool_calls=(call,)), result])
    given = fake.requests["m"][1].body["messages"]
    assert given[1]["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]
    assert given[2] == {"role": "tool", "content": "sun", "tool_name": "weather"}


async def test_tools_for_a_model_without_them(models: Models, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour())
    with pytest.raises(ModelLacksCapability) as caught:
        await heard(models, agent(), tools=[TOOL])
    assert caught.value.metadata["capability"] == "tools"
    # The run may go on without.
    assert (await heard(models, agent()))[-1].__class__ is Done


@pytest.mark.parametrize("megabytes", [25, 40], ids=["refused by inference-service", "more than gRPC carries"])
async def test_images_that_are_too_large_are_told_so(models: Models, fake: FakeOllama, megabytes: int) -> None:
    fake.behave("m", Behaviour(capabilities=ABLE))
    image = b"\xff\xd8\xff" + b"x" * megabytes * 1024 * 1024
    with pytest.raises(InvalidArgument, match="Send fewer or smaller") as caught:
        await heard(models, agent(), [Message(role="user", content="See", images=(image,))])
    assert [f.field for f in caught.value.fields] == ["messages"]


async def test_one_vector_for_each_text_in_their_order(models: Models, fake: FakeOllama) -> None:
    fake.behave("e", Behaviour(capabilities=("embedding",)))
    texts = ["x" * (n % 50 + 1) for n in range(EMBED_TEXTS + 10)]
    vectors = await models.embed(texts, model="e", fair_key="a", timeout_seconds=20)
    assert vectors == [[float(len(text)), 1.0] for text in texts]
    assert await models.embed([], model="e", fair_key="a", timeout_seconds=20) == []
    fake.behave("m", Behaviour())
    with pytest.raises(ModelLacksCapability):
        await models.embed(["x"], model="m", fair_key="a", timeout_seconds=20)


async def test_what_a_model_can_do_is_asked_once(models: Models, fake: FakeOllama) -> None:
    fake.behave("able:latest", Behaviour(capabilities=ABLE))
    fake.questions.clear()
    assert await models.capabilities("able") == frozenset(ABLE)
    asked = len(fake.questions)
    assert asked > 0
    assert await models.capabilities("able") == frozenset(ABLE)
    assert len(fake.questions) == asked
    with pytest.raises(ModelNotFound, match="ollama pull absent"):
        await models.capabilities("absent")


async def test_what_is_not_known_of_a_model_is_asked_again(models: Models, fake: FakeOllama) -> None:
    fake.behave("plain", Behaviour(capabilities=()))
    assert await models.capabilities("plain") == frozenset()
    fake.behave("plain", Behaviour(capabilities=ABLE))

    async def is_known() -> bool:
        return await models.capabilities("plain") == frozenset(ABLE)

    await eventually(is_known, seconds=5, what="the capabilities")
