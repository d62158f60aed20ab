"""A model host that keeps failing is left alone, said to be so, and used again once it works."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelNotFound, ModelRefused, ModelTimeout
from servers.inference import Heard, Inference, inference_on
from system.waiting import eventually

NEVER: dict[str, Any] = {"model_breaker_first_seconds": 1e9, "model_breaker_max_seconds": 1e9}
SOON: dict[str, Any] = {"model_breaker_first_seconds": 0.02, "model_breaker_max_seconds": 0.05}
ONCE: dict[str, Any] = {"model_attempts": 1, "model_breaker_failures": 3}
METRIC = "hearth_model_host_breaker_state"


@pytest.fixture
async def one() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture
async def two() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


async def fail(inference: Inference, times: int, kind: type[HearthError] = ModelHostUnavailable) -> None:
    for _ in range(times):
        with pytest.raises(kind):
            await inference.answer("m")


async def state_of(inference: Inference, fake: FakeOllama) -> Any:
    return next(h.breaker.state for h in (await inference.models()).hosts if h.name == fake.url)


async def reaches(inference: Inference, fake: FakeOllama, state: Any) -> None:
    async def reached() -> bool:
        return bool(await state_of(inference, fake) == state)

    await eventually(reached, seconds=5, what=pb.Breaker.State.Name(state))


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (Behaviour(status=500, error="out of memory"), ModelHostUnavailable),
        (Behaviour(stall_after=0), ModelTimeout),
        (Behaviour(stall_after=1), ModelTimeout),
        (Behaviour(cut_after=1), ModelHostUnavailable),
        (Behaviour(end_after=1), ModelHostUnavailable),
        (Behaviour(error_after=1), ModelHostUnavailable),
        (Behaviour(rubbish_after=0), ModelHostUnavailable),
    ],
)
async def test_the_only_host_open_fails_requests_at_once(
    one: FakeOllama, bad: Behaviour, kind: type[HearthError]
) -> None:
    one.behave("m", bad)
    patience = {"model_first_token_seconds": 0.2, "model_between_tokens_seconds": 0.2}
    async with inference_on(one.url, **ONCE, **NEVER, **patience) as inference:
        await fail(inference, 3, kind)
        asked = len(one.questions)
        started = time.monotonic()
        heard = Heard()
        with pytest.raises(ModelHostUnavailable, match=r"is given no requests since .* The next probe is in") as caught:
            await inference.answer("m", heard=heard, fallback_models=[])
        assert time.monotonic() - started < 1
        assert caught.value.retryable
        assert (caught.value.retry_after_seconds or 0) > 1
        assert heard.notices == []
        with pytest.raises(ModelHostUnavailable, match="is given no requests"):
            await inference.embed("m", ["a"])
        assert (len(one.requests["m"]), len(one.questions)) == (3, asked)


async def test_refusals_and_unknown_models_open_nothing(one: FakeOllama) -> None:
    one.behave("m", Behaviour(status=400))
    async with inference_on(one.url, **ONCE, **NEVER) as inference:
        await fail(inference, 4, ModelRefused)
        for _ in range(4):
            with pytest.raises(ModelNotFound):
                await inference.answer("absent")
        one.behave("m", Behaviour())
        assert (await inference.answer("m")).done


async def test_a_host_that_is_not_there_opens_it(one: FakeOllama) -> None:
    one.behave("m", Behaviour())
    async with inference_on(one.url, **ONCE, **NEVER) as inference:
        await one.stop()
        await fail(inference, 3)
        with pytest.raises(ModelHostUnavailable, match=r"is given no requests .* does not answer"):
            await inference.answer("m")


async def test_the_tries_of_one_request_open_it_and_end_there(one: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500, error="the reason"))
    one.behave("spare", Behaviour())
    async with inference_on(one.url, model_attempts=10, model_breaker_failures=3, **NEVER) as inference:
        with pytest.raises(ModelHostUnavailable, match=r"no requests since .* the reason"):
            await inference.answer("m", fallback_models=["spare"])
        assert (len(one.requests["m"]), len(one.requests["spare"])) == (3, 0)


async def test_other_hosts_are_taken_and_health_shows_which_is_left_out(one: FakeOllama, two: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500, error="out of memory"))
    two.behave("m", Behaviour())
    two.behave("only", Behaviour())
    async with inference_on(one.url, two.url, model_breaker_failures=3, **NEVER) as inference:
        for _ in range(6):
            assert (await inference.answer("m")).done.host == two.url
        assert (await inference.answer("m")).notices == []
        assert len(one.requests["m"]) == 3
        assert await inference.metric(METRIC, host=one.url) == 2
        assert await inference.metric(METRIC, host=two.url) == 0
        hosts = {h.name: h for h in (await inference.models()).hosts}
        breaker = hosts[one.url].breaker
        assert hosts[one.url].reachable
        assert breaker.state == pb.Breaker.STATE_OPEN
        assert "out of memory" in breaker.reason
        assert time.time() - 60 < breaker.since_time.seconds <= time.time() < breaker.next_probe_time.seconds
        assert hosts[two.url].breaker == pb.Breaker(state=pb.Breaker.STATE_CLOSED)
        whole, left_out, used = [
            await inference.dependency(n) for n in ("ollama", f"ollama {one.url}", f"ollama {two.url}")
        ]
        assert (whole.healthy, left_out.healthy, used.healthy) == (True, False, True)
        assert not left_out.required
        why, probe, _ = left_out.detail.partition("The next probe is in")
        assert probe
        assert why.endswith("out of memory. ")
        assert why in whole.detail
        assert whole.detail.endswith("has 0.0.0-fake (breaker closed)")


async def test_the_only_host_open_is_not_healthy_though_it_answers(one: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500, error="out of memory"))
    async with inference_on(one.url, **ONCE, **NEVER) as inference:
        assert (await inference.dependency()).healthy
        await fail(inference, 3)
        dependency = await inference.dependency()
        assert not dependency.healthy
        assert "(breaker open)" in dependency.detail
        # A model that no host is known to have may be on the one that is left out.
        with pytest.raises(ModelHostUnavailable):
            await inference.answer("absent")


async def test_it_finds_its_way_back(one: FakeOllama) -> None:
    one.behave("m", Behaviour())
    async with inference_on(one.url, **ONCE, **SOON) as inference:
        await one.stop()
        await fail(inference, 3)
        await reaches(inference, one, pb.Breaker.STATE_OPEN)
        await one.start()
        await reaches(inference, one, pb.Breaker.STATE_HALF_OPEN)
        dependency = await inference.dependency()
        assert dependency.healthy
        assert "its next request is the trial" in dependency.detail
        assert await inference.metric(METRIC, host=one.url) == 1
        assert (await inference.answer("m")).done
        assert await state_of(inference, one) == pb.Breaker.STATE_CLOSED
        assert await inference.metric(METRIC, host=one.url) == 0


async def test_a_host_that_answers_probes_but_does_not_generate_meets_one_request_at_a_time(one: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500, seconds_before_first=0))
    async with inference_on(one.url, **ONCE, **SOON) as inference:
        await fail(inference, 3)
        await reaches(inference, one, pb.Breaker.STATE_HALF_OPEN)
        one.behave("m", Behaviour(stall_after=0))
        answers = [asyncio.create_task(inference.answer("m", seconds=8)) for _ in range(4)]

        async def asked() -> bool:
            return bool(one.requests["m"])

        await eventually(asked)
        await asyncio.sleep(0.1)
        assert len(one.requests["m"]) == 1
        one.behave("m", Behaviour())
        answers[0].cancel()
        heard = [a for a in await asyncio.gather(*answers, return_exceptions=True) if isinstance(a, Heard)]
        assert len(heard) == 3
        assert all(a.notices == ["queued"] for a in heard)
        assert await state_of(inference, one) == pb.Breaker.STATE_CLOSED


async def test_a_host_on_trial_is_passed_over_while_another_is_there(one: FakeOllama, two: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500))
    two.behave("m", Behaviour(pieces=("two",)))
    async with inference_on(one.url, two.url, model_breaker_failures=1, model_concurrency=2, **SOON) as inference:
        assert (await inference.answer("m")).done.host == two.url
        await reaches(inference, one, pb.Breaker.STATE_HALF_OPEN)
        one.behave("m", Behaviour(stall_after=0))
        two.behave("m", Behaviour(pieces=("two",), seconds_before_first=0.5))
        busy = [asyncio.create_task(inference.answer("m")) for _ in range(6)]

        async def on_trial() -> bool:
            return len(one.requests["m"]) == 1 and len(two.requests["m"]) >= 2

        await eventually(on_trial, what="a trial beside a busy host")
        done = await asyncio.wait_for(asyncio.gather(*busy[:1]), 5)
        assert done[0].done.host == two.url
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        assert len(one.requests["m"]) == 1
