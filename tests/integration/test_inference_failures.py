"""What fails, and when: before the first token it is tried again, afterwards its caller is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth_runtime.errors import (
    HearthError,
    ModelHostUnavailable,
    ModelLacksCapability,
    ModelNotFound,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from servers.inference import Heard, Inference, inference_on

ABSENT = "http://me:secret@127.0.0.1:9"


@pytest.fixture(scope="module")
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture(scope="module")
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(
        fake.url, model_first_token_seconds=0.3, model_between_tokens_seconds=0.2, model_attempts=3
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    "bad",
    [
        Behaviour(status=500, error="out of memory"),
        Behaviour(status=503, error="busy"),
        Behaviour(status=429, error="slow down"),
        Behaviour(stall_after=0),
        Behaviour(cut_after=0),
        Behaviour(end_after=0),
        Behaviour(error_after=0),
        Behaviour(rubbish_after=0),
        Behaviour(rubbish_after=0, rubbish=b"[1]\n"),
        Behaviour(rubbish_after=0, rubbish=b'{"message": 7, "done": false}\n'),
        Behaviour(rubbish_after=0, rubbish=b"[" * 100_000 + b"\n"),
    ],
    ids=lambda b: f"{b.status}-{b}"[:60],
)
async def test_before_the_first_token_it_is_tried_again(inference: Inference, fake: FakeOllama, bad: Behaviour) -> None:
    fake.behave("m", bad, bad, Behaviour())
    heard = await inference.answer("m")
    assert (heard.text, heard.notices) == ("one two three", ["retry", "retry"])
    assert len(fake.requests["m"]) == 3


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (Behaviour(stall_after=1), ModelTimeout, "silent for 0.2 seconds"),
        (Behaviour(cut_after=1), ModelHostUnavailable, "broke the answer off"),
        (Behaviour(end_after=1), ModelHostUnavailable, "before it was done"),
        (Behaviour(error_after=1, error="the runner has died"), ModelHostUnavailable, "the runner has died"),
        (Behaviour(rubbish_after=1), ModelHostUnavailable, "not Ollama's protocol"),
    ],
)
async def test_after_the_first_token_its_caller_is_told(
    inference: Inference, fake: FakeOllama, bad: Behaviour, kind: type[HearthError], words: str
) -> None:
    fake.behave("m", bad, Behaviour())
    heard = Heard()
    with pytest.raises(kind, match=words):
        await inference.answer("m", heard=heard, fallback_models=["other"])
    assert (heard.text, heard.notices) == ("one", [])
    assert len(fake.requests["m"]) == 1


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (Behaviour(status=500, error="out of memory"), ModelHostUnavailable, "out of memory"),
        (Behaviour(status=429, error="slow down"), ModelOverloaded, "slow down"),
        (Behaviour(stall_after=0), ModelTimeout, "silent for 0.3 seconds"),
    ],
)
async def test_tries_run_out(
    inference: Inference, fake: FakeOllama, bad: Behaviour, kind: type[HearthError], words: str
) -> None:
    fake.behave("m", bad)
    heard = Heard()
    with pytest.raises(kind, match=words):
        await inference.answer("m", heard=heard)
    assert heard.notices == ["retry", "retry"]
    assert len(fake.requests["m"]) == 3


@pytest.mark.parametrize(
    ("bad", "kind", "words"),
    [
        (Behaviour(status=400, error="does not support that\x1b" + "x" * 1000), ModelRefused, "not support thatx"),
        (Behaviour(status=413, error="too large"), ModelRefused, "too large"),
        (Behaviour(status=501, error="cannot chat"), ModelLacksCapability, "m cannot do this: cannot chat"),
    ],
)
async def test_a_refusal_is_final(
    inference: Inference, fake: FakeOllama, bad: Behaviour, kind: type[HearthError], words: str
) -> None:
    fake.behave("m", bad)
    fake.behave("other", Behaviour())
    with pytest.raises(kind, match=words) as caught:
        await inference.answer("m", fallback_models=["other"])
    assert len(caught.value.detail) < 500
    assert len(fake.requests["m"]) == 1
    assert fake.requests["other"] == []


async def test_a_model_that_no_host_has(inference: Inference) -> None:
    with pytest.raises(ModelNotFound, match=r"GET /api/v1/models .* `ollama pull absent:7b`") as caught:
        await inference.answer("absent:7b")
    assert caught.value.metadata == {"model": "absent:7b"}


async def test_a_model_that_was_removed_since_it_was_listed(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour())
    await inference.answer("m")
    fake.behave("spare", Behaviour(pieces=("spare",)))
    fake.remove("m")
    heard = await inference.answer("m", fallback_models=["spare"])
    assert (heard.text, heard.notices) == ("spare", ["fallback"])


async def test_fallback_models_in_their_order(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("broken", Behaviour(status=500))
    fake.behave("spare", Behaviour(pieces=("spare",)))
    fake.behave("never", Behaviour())
    heard = await inference.answer("absent", fallback_models=["broken", "spare", "never"])
    assert heard.text == "spare"
    assert heard.notices == ["fallback", "retry", "retry", "fallback"]
    assert heard.messages[0].endswith("Trying broken instead.")
    assert heard.done.model == "spare"
    assert fake.requests["never"] == []


async def test_the_deadline_bounds_the_whole(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(pieces=("x",) * 1000, seconds_between=0.01))
    heard = Heard()
    with pytest.raises(ModelTimeout, match="had not answered in full after"):
        await inference.answer("m", heard=heard, seconds=0.5)
    assert heard.text
    async with asyncio.timeout(1):
        await fake.requests["m"][0].done.wait()
    assert fake.requests["m"][0].disconnected


async def test_a_wait_that_the_deadline_forbids_is_not_begun(fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(status=500, error="the reason"))
    async with inference_on(fake.url, model_backoff_seconds=1e9) as inference:
        with pytest.raises(ModelHostUnavailable, match="the reason"):
            await inference.answer("m", seconds=2)


async def test_a_host_that_is_not_there_is_named_without_its_password() -> None:
    async with inference_on(ABSENT) as inference:
        with pytest.raises(
            ModelHostUnavailable, match=r"http://127\.0\.0\.1:9 does not answer\. Start Ollama"
        ) as caught:
            await inference.answer("m")
        assert "secret" not in caught.value.detail
        dependency = await inference.dependency()
        assert (dependency.name, dependency.healthy, dependency.required) == ("ollama", False, False)
        assert "http://127.0.0.1:9 does not answer" in dependency.detail


async def test_a_host_that_comes_back_is_used_again() -> None:
    async with FakeOllama() as fake, inference_on(fake.url, model_list_seconds=60) as inference:
        fake.behave("m", Behaviour())
        await inference.answer("m")
        await fake.stop()
        with pytest.raises(ModelHostUnavailable, match="does not answer"):
            await inference.answer("m")
        await fake.start()
        assert (await inference.answer("m")).done
