"""Tools and images over gRPC: what a model is shown, what it calls, and what it cannot do."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama, called
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import (
    HearthError,
    InvalidArgument,
    ModelLacksCapability,
    ModelNotFound,
    ModelOutputInvalid,
    ModelRefused,
)
from servers.inference import Heard, Inference, inference_on

ABLE = ("completion", "tools", "vision")
PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 20
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "place": {"type": "object", "properties": {"city": {"type": "string", "default": "Paris"}}},
        "days": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
    },
    "required": ["place"],
    "additionalProperties": False,
}
TOOLS = [pb.Tool(name="weather", description="Tells the weather.", parameters=json.dumps(WEATHER))]
NUMBER = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def question(**fields: Any) -> Sequence[pb.ChatMessage]:
    return [pb.ChatMessage(role="user", content="Hello", **fields)]


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(fake.url, model_list_seconds=0) as opened:
        yield opened


async def test_calls_come_whole_and_tools_go_as_they_are(inference: Inference, fake: FakeOllama) -> None:
    calls = (called("weather", place={"city": "Oslo"}, days=None), called("other"))
    fake.behave("m", Behaviour(pieces=("Let me see.",), tool_calls=calls, capabilities=ABLE))
    heard = await inference.answer("m", tools=TOOLS, output_schema=NUMBER)
    assert heard.text == "Let me see."
    assert [(c.name, c.arguments) for c in heard.calls] == [
        ("weather", '{"place":{"city":"Oslo"},"days":null}'),
        ("other", "{}"),
    ]
    # A call is not the last word, so the schema does not hold for what comes with it.
    assert (heard.done.finish_reason, heard.done.HasField("data")) == ("stop", False)
    # The ollama library would leave out what it does not know of JSON Schema.
    function = {"name": "weather", "description": "Tells the weather.", "parameters": WEATHER}
    assert fake.requests["m"][0].body["tools"] == [{"type": "function", "function": function}]


async def test_without_a_call_the_schema_holds(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=('{"n": 1}',), capabilities=ABLE), Behaviour(capabilities=ABLE))
    assert (await inference.answer("m", tools=TOOLS, output_schema=NUMBER)).done.data == '{"n":1}'
    with pytest.raises(ModelOutputInvalid):
        await inference.answer("m", tools=TOOLS, output_schema=NUMBER)


async def test_a_call_alone_is_an_answer(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=(), thinking=2, tool_calls=(called("weather"),), capabilities=ABLE))
    heard = await inference.answer("m", tools=TOOLS)
    assert ([c.name for c in heard.calls], heard.text, heard.notices) == (["weather"], "", [])
    assert heard.done.first_token_seconds > 0


async def test_the_model_is_shown_images_calls_and_results(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(capabilities=ABLE))
    await inference.answer(
        "m",
        messages=[
            *question(images=[PNG, b"\xff\xd8\xff"]),
            pb.ChatMessage(role="assistant", tool_calls=[pb.ToolCall(name="weather", arguments='{"b":1,"a":[2.5]}')]),
            pb.ChatMessage(role="tool", tool_name="weather", content="sun"),
        ],
    )
    images = [base64.b64encode(image).decode() for image in (PNG, b"\xff\xd8\xff")]
    assert fake.requests["m"][0].body["messages"] == [
        {"role": "user", "content": "Hello", "images": images},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"b": 1, "a": [2.5]}}}],
        },
        {"role": "tool", "content": "sun", "tool_name": "weather"},
    ]


@pytest.mark.parametrize(
    ("fields", "capability", "words"),
    [({"tools": TOOLS}, "tools", "m takes no tools"), ({"messages": question(images=[PNG])}, "vision", "no images")],
)
@pytest.mark.parametrize("said", [("completion",), ()], ids=["known before", "said by the host"])
async def test_what_a_model_cannot_do(
    inference: Inference, fake: FakeOllama, fields: dict[str, Any], capability: str, words: str, said: tuple[str, ...]
) -> None:
    name = f"m-{capability}-{len(said)}"
    fake.behave(name, Behaviour(capabilities=said))
    with pytest.raises(ModelLacksCapability, match="Choose a model that has it") as caught:
        await inference.answer(name, fallback_models=["another"], **fields)
    assert words.replace("m ", f"{name} ") in caught.value.detail
    assert caught.value.metadata == {"model": name, "capability": capability}
    # Where it is known before, the host is not asked; where it is not, it is asked once.
    assert len(fake.requests[name]) == (0 if said else 1)
    assert (await inference.answer(name)).text == "one two three"


async def test_a_fallback_that_cannot_do_it_is_named(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("spare", Behaviour())
    with pytest.raises(ModelLacksCapability, match="spare takes no tools"):
        await inference.answer("absent", fallback_models=["spare"], tools=TOOLS)


deep: Any = 1
for _ in range(70):
    deep = [deep]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (called("\x00 "), "name is empty"),
        (called("x" * 257), "more than 256 characters"),
        (called("f", a="x" * 70_000), "at most 65536"),
        (called("f", a=deep), "over 64 levels"),
        (called("f", a=2**63), "more than 64 bits"),
        (called("f", a=float("nan")), "not finite"),
    ],
)
async def test_a_call_that_cannot_be_used(
    inference: Inference, fake: FakeOllama, call: dict[str, Any], words: str
) -> None:
    fake.behave("m", Behaviour(tool_calls=(call,), capabilities=ABLE))
    with pytest.raises(ModelOutputInvalid, match=words):
        await inference.answer("m", tools=TOOLS)
    assert len(fake.requests["m"]) == 1


async def test_calls_without_an_end(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(tool_calls=(called("f"),) * 65, capabilities=ABLE))
    with pytest.raises(ModelOutputInvalid, match="more than 64 tools"):
        await inference.answer("m", tools=TOOLS)
    lines = b"".join(
        json.dumps({"message": {"role": "assistant", "tool_calls": [called("f")]}, "done": False}).encode() + b"\n"
        for _ in range(200)
    )
    fake.behave("m", Behaviour(pieces=(), rubbish_after=0, rubbish=lines, capabilities=ABLE))
    heard = Heard()
    with pytest.raises(ModelOutputInvalid, match="more than 64 tools"):
        await inference.answer("m", heard=heard, tools=TOOLS)
    assert len(heard.calls) == 64


async def test_what_is_called_is_cleaned(inference: Inference, fake: FakeOllama) -> None:
    call = called("we\x1bather", **{"a\x00": ["\x85b\ud800", {"c": "\x07"}]})
    fake.behave("m", Behaviour(tool_calls=(call,), capabilities=ABLE))
    (heard,) = (await inference.answer("m", tools=TOOLS)).calls
    assert (heard.name, heard.arguments) == ("weather", '{"a":["b?",{"c":""}]}')


async def test_a_call_that_the_host_cannot_read_is_no_failure_of_the_host(fake: FakeOllama) -> None:
    error = "error parsing tool call: raw='ls -R', err=invalid character 'l' looking for beginning of value"
    for bad in (Behaviour(status=500, error=error), Behaviour(error_after=0, error=error)):
        fake.behave("m", replace(bad, capabilities=ABLE), Behaviour(capabilities=ABLE))
        async with inference_on(fake.url, model_breaker_failures=1) as inference:
            with pytest.raises(ModelOutputInvalid, match=r"m called a tool in a way that .* could not read"):
                await inference.answer("m", tools=TOOLS)
            assert len(fake.requests["m"]) == 1
            assert (await inference.answer("m", tools=TOOLS)).text == "one two three"


def tool(**fields: str) -> dict[str, Any]:
    return {"tools": [pb.Tool(**{"name": "t", "description": "", "parameters": "{}", **fields})]}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (tool(name="a b"), "tools.0.name"),
        (tool(name="x" * 65), "tools.0.name"),
        (tool(description="x" * 70_000), "tools.0.description"),
        (tool(parameters="[]"), "tools.0.parameters"),
        (tool(parameters="{"), "tools.0.parameters"),
        (tool(parameters='{"a":"' + "x" * 70_000 + '"}'), "tools.0.parameters"),
        ({"tools": [*TOOLS, *TOOLS]}, "tools.1.name"),
        ({"tools": [pb.Tool(name=f"t{n}", parameters="{}") for n in range(129)]}, "tools"),
        (
            {"tools": [pb.Tool(name=f"t{n}", description="x" * 50_000, parameters="{}") for n in range(21)]},
            "tools",
        ),
        ({"messages": question(images=[b"GIF89a"])}, "messages.0.images.0"),
        ({"messages": question(images=[PNG] * 33)}, "messages"),
        ({"messages": question(images=[PNG + b"x" * 11 * 1024 * 1024] * 2)}, "messages"),
        (
            {"messages": question(tool_calls=[pb.ToolCall(name="t", arguments="1")])},
            "messages.0.tool_calls.0.arguments",
        ),
    ],
)
async def test_a_request_that_is_wrong_names_its_field(
    inference: Inference, fake: FakeOllama, fields: dict[str, Any], field: str
) -> None:
    fake.behave("m", Behaviour(capabilities=ABLE))
    with pytest.raises(InvalidArgument) as caught:
        await inference.answer("m", **fields)
    assert [f.field for f in caught.value.fields] == [field]
    assert fake.requests["m"] == []


async def test_images_of_any_size_that_is_taken_arrive(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(capabilities=ABLE))
    image = PNG + b"x" * (20 * 1024 * 1024 - len(PNG))
    await inference.answer("m", messages=question(images=[image]))
    assert len(fake.requests["m"][0].body["messages"][0]["images"][0]) == 27_962_028


async def test_only_a_model_that_thinks_is_told_of_thinking(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("plain", Behaviour())
    fake.behave("thinker", Behaviour(capabilities=("completion", "thinking")))
    options: list[dict[str, Any]] = [{}, {"think": False}, {"think": True}]
    for name in ("plain", "thinker"):
        for option in options:
            await inference.answer(name, **option)
    assert [r.body.get("think") for r in fake.requests["plain"]] == [None, None, None]
    assert [r.body.get("think") for r in fake.requests["thinker"]] == [None, False, True]


async def test_a_conversation_that_is_cut_is_told(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(too_long=True))
    heard = await inference.answer("m", context_tokens=99)
    assert (heard.text, heard.notices) == ("one two three", ["cut"])
    assert "m's context of 99 tokens" in heard.messages[0]
    assert [(r.body["truncate"], r.body["shift"]) for r in fake.requests["m"]] == [(False, False), (True, False)]
    # By a host that knows no `truncate`, and cuts without a word.
    fake.behave("m", Behaviour(prompt_tokens=99))
    assert (await inference.answer("m", context_tokens=99)).notices == ["cut"]
    assert (await inference.answer("m", context_tokens=100)).notices == []
    assert (await inference.answer("m")).notices == []


async def test_a_conversation_of_which_nothing_can_be_left_out(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(status=400, error="the input length exceeds the context length"))
    heard = Heard()
    with pytest.raises(ModelRefused, match="context length"):
        await inference.answer("m", heard=heard)
    assert (heard.notices, len(fake.requests["m"])) == (["cut"], 2)


async def test_one_model_by_any_of_its_names(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("able:latest", Behaviour(capabilities=ABLE))
    for name in ("able", "ABLE:latest", "library/able"):
        model = (await inference.stub.GetModel(pb.GetModelRequest(name=name))).model
        assert (model.name, list(model.capabilities), model.context_tokens) == ("able:latest", list(ABLE), 4096)
        assert list(model.hosts) == [fake.url]
    kinds: dict[str, type[HearthError]] = {"absent": ModelNotFound, "a b": InvalidArgument, "": InvalidArgument}
    for name, kind in kinds.items():
        with pytest.raises(kind):
            await inference.stub.GetModel(pb.GetModelRequest(name=name))
