"""Embeddings over gRPC."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth_runtime.errors import (
    HearthError,
    InvalidArgument,
    ModelHostUnavailable,
    ModelLacksCapability,
    ModelNotFound,
    ModelTimeout,
)
from servers.inference import Inference, inference_on

EMBEDS = ("embedding",)


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(fake.url, model_first_token_seconds=0.3) as opened:
        yield opened


async def test_one_vector_for_each_text_in_order_over_batches(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("e", Behaviour(capabilities=EMBEDS))
    texts = ["x" * n for n in range(150)]
    answer = await inference.embed("e", texts)
    assert [list(v.values) for v in answer.vectors] == [[float(n), 1.0] for n in range(150)]
    assert (answer.model, answer.prompt_tokens) == ("e", 150)
    assert [len(r.body["input"]) for r in fake.requests["e"]] == [64, 64, 22]


async def test_a_failure_is_tried_again(inference: Inference, fake: FakeOllama) -> None:
    bad = Behaviour(status=500, capabilities=EMBEDS)
    slow = Behaviour(seconds_before_first=2, capabilities=EMBEDS)
    fake.behave("e", bad, slow, Behaviour(capabilities=EMBEDS))
    assert len((await inference.embed("e", ["a"])).vectors) == 1
    assert [r.disconnected for r in fake.requests["e"]] == [False, True, False]


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (Behaviour(), ModelLacksCapability, "does not support embeddings"),
        (Behaviour(capabilities=EMBEDS, vectors=((1.0,),)), ModelHostUnavailable, "gave 1 vectors for 2 texts"),
        (Behaviour(capabilities=EMBEDS, vectors=((1.0,), (1.0, 2.0))), ModelHostUnavailable, "several lengths"),
        (Behaviour(capabilities=EMBEDS, vectors=((1.0,), ())), ModelHostUnavailable, "empty"),
        (Behaviour(capabilities=EMBEDS, seconds_before_first=5), ModelTimeout, "silent for 0.3 seconds"),
    ],
)
async def test_what_cannot_be_had(
    inference: Inference, fake: FakeOllama, bad: Behaviour, kind: type[HearthError], words: str
) -> None:
    fake.behave("e", bad)
    with pytest.raises(kind, match=words):
        await inference.embed("e", ["a", "b"])


async def test_bounds(inference: Inference) -> None:
    for texts in ([], ["a"] * 1025, ["a" * 4_000_001] * 2):
        with pytest.raises(InvalidArgument) as caught:
            await inference.embed("e", texts)
        assert [f.field for f in caught.value.fields] == ["texts"]
    with pytest.raises(InvalidArgument):
        await inference.embed("", ["a"])
    with pytest.raises(ModelNotFound):
        await inference.embed("absent", ["a"])


async def test_a_deadline_closes_the_request(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("e", Behaviour(capabilities=EMBEDS), Behaviour(capabilities=EMBEDS, seconds_before_first=5))
    with pytest.raises(ModelTimeout, match="had embedded 64 of 65 texts"):
        await inference.embed("e", ["a"] * 65, seconds=0.25)
    async with asyncio.timeout(1):
        await fake.requests["e"][1].done.wait()
    assert fake.requests["e"][1].disconnected
