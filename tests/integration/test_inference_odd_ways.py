"""Ollama's odd ways: each is said to whoever watches, and ends in an answer or in a typed error."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import (
    InvalidArgument,
    ModelHostUnavailable,
    ModelOutputInvalid,
    ModelOverloaded,
    ModelTimeout,
)
from servers.inference import Heard, Inference, inference_on
from system.waiting import eventually

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(
        fake.url,
        model_first_token_seconds=1.0,
        model_between_tokens_seconds=0.3,
        model_loading_notice_seconds=0.3,
        model_output_characters=50,
    ) as opened:
        yield opened


async def test_a_model_that_loads_first_is_waited_for_and_said_to(inference: Inference, fake: FakeOllama) -> None:
    # Longer than a pause between tokens may be.
    fake.behave("m", Behaviour(seconds_before_first=0.5, load_seconds=0.4))
    heard = await inference.answer("m")
    assert (heard.text, heard.notices) == ("one two three", ["loading"])
    assert heard.messages[0].startswith("m has not begun to answer after 0.3 seconds:")
    assert heard.done.load_seconds == 0.4
    assert len(fake.requests["m"]) == 1


async def test_a_model_that_is_loaded_already_gives_no_notice(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(load_seconds=0.0))
    heard = await inference.answer("m")
    assert (heard.notices, heard.done.load_seconds) == ([], 0.0)


async def test_a_model_that_was_unloaded_between_calls_loads_again(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(load_seconds=0.0), Behaviour(seconds_before_first=0.4, load_seconds=0.3))
    assert (await inference.answer("m")).notices == []
    again = await inference.answer("m")
    assert (again.notices, again.done.load_seconds) == (["loading"], 0.3)


async def test_a_model_that_never_loads(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(stall_after=0))
    heard = Heard()
    with pytest.raises(ModelTimeout, match="silent for 1 seconds"):
        await inference.answer("m", heard=heard)
    assert heard.notices == ["loading", "retry"] * 2 + ["loading"]
    assert [r.disconnected for r in fake.requests["m"]] == [True] * 3


async def test_a_caller_that_leaves_while_it_loads_closes_the_request(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(stall_after=0))
    call = inference.chat("m")
    async for item in call:
        assert item.notice.code == "loading"
        break
    call.cancel()
    async with asyncio.timeout(1):
        await fake.requests["m"][0].done.wait()
    assert fake.requests["m"][0].disconnected


@pytest.mark.parametrize(
    ("behaviour", "options", "words"),
    [
        (Behaviour(done_reason="length"), {"max_tokens": 3}, "cut off at max_tokens, 3. Raise it"),
        (Behaviour(done_reason="length"), {"max_tokens": 9}, "end of its context. Raise context_tokens"),
        (Behaviour(done_reason="length"), {"context_tokens": 64}, "end of its context of 64 tokens. Raise"),
        (Behaviour(pieces=("x" * 60,)), {}, "cut off at 50 characters. HEARTH_MODEL_OUTPUT_CHARACTERS"),
    ],
)
async def test_an_answer_that_is_cut_off_says_at_what(
    inference: Inference, fake: FakeOllama, behaviour: Behaviour, options: dict[str, Any], words: str
) -> None:
    fake.behave("m", behaviour)
    heard = await inference.answer("m", **options)
    assert (heard.notices, heard.done.finish_reason) == (["cut"], "length")
    assert words in heard.messages[0]


async def test_a_cut_is_said_before_the_schema_finds_it(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=('{"n"',), done_reason="length"))
    heard = Heard()
    with pytest.raises(ModelOutputInvalid, match="is not JSON"):
        await inference.answer("m", heard=heard, output_schema=SCHEMA, max_tokens=1)
    assert heard.notices == ["cut"]


@pytest.mark.parametrize("thinking", [0, 2])
async def test_an_empty_answer_is_tried_once_more(inference: Inference, fake: FakeOllama, thinking: int) -> None:
    fake.behave("m", Behaviour(pieces=(), thinking=thinking), Behaviour())
    heard = await inference.answer("m")
    assert (heard.text, heard.notices) == ("one two three", ["retry"])
    assert "without a word" in heard.messages[0]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (Behaviour(pieces=()), "without a word; a stop word"),
        (Behaviour(pieces=("", "\x00")), "without a word"),
        (Behaviour(pieces=(), done_reason="length"), "a larger max_tokens"),
        (Behaviour(pieces=(), done_reason="load"), "only did load it"),
        (Behaviour(pieces=(), done_reason="unload"), "only did unload it"),
    ],
)
async def test_an_answer_that_stays_empty_is_an_error(
    inference: Inference, fake: FakeOllama, behaviour: Behaviour, words: str
) -> None:
    fake.behave("m", behaviour)
    for options in ({}, {"output_schema": SCHEMA}):
        fake.behave("m", behaviour)
        heard = Heard()
        with pytest.raises(ModelOutputInvalid, match=words) as caught:
            await inference.answer("m", heard=heard, **options)
        assert caught.value.retryable
        assert (heard.notices, heard.done, len(fake.requests["m"])) == (["retry"], None, 2)


async def test_an_answer_that_stays_empty_is_left_to_a_fallback(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=()))
    fake.behave("spare", Behaviour(pieces=("spare",)))
    heard = await inference.answer("m", fallback_models=["spare"])
    assert (heard.text, heard.notices) == ("spare", ["retry", "fallback"])


async def test_an_answer_of_tool_calls_alone_is_not_empty(inference: Inference, fake: FakeOllama) -> None:
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    fake.behave("m", Behaviour(pieces=(), tool_calls=(call,)))
    heard = await inference.answer("m")
    assert (heard.text, heard.notices, heard.done.finish_reason) == ("", [], "stop")


async def test_an_empty_prompt_which_would_only_load_the_model_is_refused(
    inference: Inference, fake: FakeOllama
) -> None:
    fake.behave("m", Behaviour(done_reason="load", pieces=()))
    with pytest.raises(InvalidArgument) as caught:
        async for _ in inference.stub.Generate(pb.GenerateRequest(model="m", prompt="", system="s"), timeout=10):
            pass
    assert [f.field for f in caught.value.fields] == ["prompt"]
    assert fake.requests["m"] == []


async def test_a_host_with_too_much_to_do_is_not_taken_for_a_broken_one(fake: FakeOllama) -> None:
    busy = Behaviour(status=503, error="server busy, please try again.  maximum pending requests exceeded")
    fake.behave("m", busy, busy, busy, Behaviour())
    async with inference_on(fake.url, model_breaker_failures=1, model_attempts=3) as inference:
        with pytest.raises(ModelOverloaded, match="server busy"):
            await inference.answer("m")
        assert (await inference.answer("m")).done


async def test_a_host_that_restarts_in_mid_answer() -> None:
    """Cut off while it answers, refused while it is away, used again when it is back."""
    async with FakeOllama() as fake, inference_on(fake.url) as inference:
        fake.behave("m", Behaviour(pieces=("word ",) * 1000, seconds_between=0.01))
        heard = Heard()
        running = asyncio.create_task(inference.answer("m", heard=heard, fallback_models=["m"]))

        async def speaks() -> bool:
            return bool(heard.text)

        await eventually(speaks)
        await fake.stop()
        with pytest.raises(ModelHostUnavailable, match="broke the answer off") as caught:
            await running
        assert caught.value.retryable
        assert len(fake.requests["m"]) == 1
        with pytest.raises(ModelHostUnavailable, match="does not answer") as caught:
            await inference.answer("m")
        assert caught.value.retryable
        fake.behave("m", Behaviour())
        await fake.start()
        assert (await inference.answer("m")).text == "one two three"
