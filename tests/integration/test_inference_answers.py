"""Chat and Generate over gRPC: pieces as they come, what is done with them, what is said of them."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import HearthError, InvalidArgument, ModelOutputInvalid
from servers.inference import Heard, Inference, inference_on

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(fake.url, model_output_characters=1000, model_schema_seconds=0.5) as opened:
        yield opened


async def test_pieces_come_one_by_one_and_done_tells_how_it_went(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("a", "b", "c"), seconds_between=0.05))
    loop = asyncio.get_running_loop()
    heard, times = Heard(), []
    async for item in inference.chat("m", temperature=0.5, seed=7, max_tokens=9, stop=["x"], keep_alive="-1"):
        heard.add(item)
        times.append(loop.time())
    assert heard.pieces == ["a", "b", "c"]
    assert times[2] - times[0] > 0.03
    assert heard.notices == []
    done = heard.done
    assert (done.model, done.host, done.finish_reason) == ("m", fake.url, "stop")
    assert (done.prompt_tokens, done.completion_tokens, done.load_seconds) == (7, 3, 2.0)
    assert 0 < done.first_token_seconds < done.total_seconds - 0.1
    assert not done.HasField("data")
    body = fake.requests["m"][0].body
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert body["options"] == {"temperature": 0.5, "seed": 7, "num_predict": 9, "stop": ["x"]}
    assert body["keep_alive"] == -1


async def test_generate_continues_a_prompt(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(done_reason="length"))
    heard = Heard()
    async for item in inference.stub.Generate(pb.GenerateRequest(model="m", prompt="p", system="s"), timeout=10):
        heard.add(item)
    assert heard.text == "one two three"
    assert heard.done.finish_reason == "length"
    received = fake.requests["m"][0]
    assert (received.path, received.body["prompt"], received.body["system"]) == ("/api/generate", "p", "s")


async def test_a_name_without_a_tag_means_latest(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("named:latest", Behaviour())
    assert (await inference.answer("named")).done.model == "named"


async def test_thoughts_are_no_text(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(thinking=3, seconds_between=0.02))
    heard = await inference.answer("m")
    assert heard.text == "one two three"
    assert heard.done.first_token_seconds > 0.05


async def test_control_characters_are_taken_out(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("a\x00b\x1b[31m", "\tc\r\n", "é\x85\x7f\ud800")))
    assert (await inference.answer("m")).text == "ab[31m\tc\né?"


async def test_a_long_answer_is_cut_and_its_request_closed(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("x" * 300,) * 10, seconds_between=0.01))
    heard = await inference.answer("m")
    assert len(heard.text) == 1000
    assert heard.done.finish_reason == "length"
    assert heard.done.completion_tokens == 4
    async with asyncio.timeout(2):
        await fake.requests["m"][0].done.wait()
    assert fake.requests["m"][0].disconnected


async def test_a_line_without_end_is_not_kept(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(rubbish_after=0, rubbish=b"x" * 17 * 1024 * 1024))
    with pytest.raises(HearthError, match="too long to be an answer"):
        await inference.answer("m")


async def test_an_answer_that_fits_its_schema_is_given_as_data(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("{ ", '"n": 1, "s": "\\u0000\\u001bx"', "}")))
    heard = await inference.answer("m", output_schema=SCHEMA)
    assert heard.done.data == '{"n":1,"s":"x"}'
    assert fake.requests["m"][0].body["format"] == json.loads(SCHEMA)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (('{"n": ', '"one"}'), 'at n: "one" is not of type "integer"'),
        (("{}",), 'at its top: "n" is a required property'),
        (('{"n": 1',), "is not JSON .* larger max_tokens"),
    ],
)
async def test_an_answer_that_does_not_fit_says_where(
    inference: Inference, fake: FakeOllama, pieces: tuple[str, ...], words: str
) -> None:
    fake.behave("m", Behaviour(pieces=pieces))
    heard = Heard()
    with pytest.raises(ModelOutputInvalid, match=words):
        await inference.answer("m", heard=heard, output_schema=SCHEMA)
    assert heard.text == "".join(pieces)
    assert heard.notices == []
    assert len(fake.requests["m"]) == 1


async def test_a_schema_that_takes_for_ever_does_not(inference: Inference, fake: FakeOllama) -> None:
    steps: dict[str, Any] = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)}
    endless = json.dumps({"$defs": {**steps, "a60": {"type": "object"}}, "$ref": "#/$defs/a0"})
    fake.behave("m", Behaviour(pieces=('{"n": 1}',)))
    stuck = asyncio.create_task(inference.answer("m", output_schema=endless))
    assert (await inference.answer("m")).done
    with pytest.raises(ModelOutputInvalid, match="make the schema simpler"):
        await stuck
    assert (await inference.answer("m", output_schema=SCHEMA)).done.data == '{"n":1}'


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output_schema": "{"}, "options.output_schema"),
        ({"output_schema": '{"type": "strin"}'}, "options.output_schema"),
        ({"output_schema": '{"$ref": "file:///etc/passwd"}'}, "options.output_schema"),
        ({"output_schema": "[]"}, "options.output_schema"),
        ({"output_schema": " " * 70_000}, "options.output_schema"),
        ({"messages": []}, "messages"),
        ({"messages": [pb.ChatMessage(role="root")]}, "messages.0.role"),
        ({"fallback_models": ["a b"]}, "fallback_models.0"),
        ({"fallback_models": ["a"] * 17}, "fallback_models"),
    ],
)
async def test_a_request_that_is_wrong_names_its_field(
    inference: Inference, fake: FakeOllama, fields: dict[str, Any], field: str
) -> None:
    fake.behave("m", Behaviour())
    with pytest.raises(InvalidArgument) as caught:
        await inference.answer("m", **fields)
    assert [f.field for f in caught.value.fields] == [field]
    assert fake.requests["m"] == []


async def test_what_a_slow_reader_has_not_read_comes_as_one(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("ab",) * 400))
    heard = await inference.answer("m")
    assert heard.text == "ab" * 400
    assert len(heard.pieces) < 400


async def test_the_measures(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("measured", Behaviour(), Behaviour(status=400))
    await inference.answer("measured")
    with pytest.raises(HearthError):
        await inference.answer("measured")
    labels = {"model": "measured", "host": fake.url}
    assert await inference.metric("hearth_model_requests_total", outcome="completed", **labels) == 1
    assert await inference.metric("hearth_model_requests_total", outcome="model_refused", **labels) == 1
    assert await inference.metric("hearth_model_tokens_total", model="measured", direction="output") == 3
    assert await inference.metric("hearth_model_tokens_total", model="measured", direction="input") == 7
    assert await inference.metric("hearth_model_first_token_seconds_count", **labels) == 1
    assert await inference.metric("hearth_model_tokens_per_second_count", **labels) == 1
    assert await inference.metric("hearth_model_queue_seconds_count", host=fake.url) >= 2
    assert await inference.metric("hearth_model_active_requests", host=fake.url) == 0


async def test_over_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        async with FakeOllama(socket=Path(folder) / "o") as fake, inference_on(fake.url) as inference:
            fake.behave("m", Behaviour())
            heard = await inference.answer("m")
            assert (heard.text, heard.done.host) == ("one two three", fake.url)
