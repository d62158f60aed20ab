"""Several hosts: who is asked, who takes over, what is said of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth_runtime.errors import ModelHostUnavailable, ModelNotFound
from servers.inference import inference_on
from system.waiting import eventually

ABSENT = "http://127.0.0.1:9"


@pytest.fixture
async def one() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture
async def two() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


async def test_another_host_takes_over_at_once(one: FakeOllama, two: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500, error="out of memory"))
    two.behave("m", Behaviour())
    # A wait this long would not end in time.
    async with inference_on(one.url, two.url, model_backoff_seconds=1e9) as inference:
        heard = await inference.answer("m", seconds=3)
        assert (heard.done.host, heard.notices) == (two.url, ["host_failed"])
        assert heard.messages == [f"{one.url} failed: out of memory. Trying {two.url}."]


async def test_no_host_is_asked_twice_before_all_were_once(one: FakeOllama, two: FakeOllama) -> None:
    one.behave("m", Behaviour(status=500), Behaviour())
    two.behave("m", Behaviour(status=500), Behaviour())
    async with inference_on(one.url, two.url) as inference:
        assert (await inference.answer("m")).notices == ["host_failed", "retry"]
        assert sorted((len(one.requests["m"]), len(two.requests["m"]))) == [1, 2]


async def test_a_host_that_dies_is_left_out_and_taken_in_again(one: FakeOllama, two: FakeOllama) -> None:
    for fake in (one, two):
        fake.behave("m", Behaviour())
    async with inference_on(one.url, two.url, model_list_seconds=60) as inference:
        first = (await inference.answer("m")).done.host
        dead, alive = (one, two) if first == one.url else (two, one)
        await dead.stop()
        heard = await inference.answer("m")
        assert (heard.done.host, heard.notices) == (alive.url, ["host_failed"])
        assert dead.url in heard.messages[0]
        heard = await inference.answer("m")
        assert (heard.done.host, heard.notices) == (alive.url, [])
        await dead.start()
        await alive.stop()

        async def is_back() -> bool:
            return bool((await inference.answer("m")).done.host == dead.url)

        await eventually(is_back, seconds=5)


async def test_a_host_that_lost_the_model_is_asked_once(one: FakeOllama, two: FakeOllama) -> None:
    for fake in (one, two):
        fake.behave("m", Behaviour())
    async with inference_on(one.url, two.url, model_list_seconds=60) as inference:
        await inference.models()
        one.remove("m")
        assert (await inference.answer("m")).notices == ["host_failed"]
        assert (await inference.answer("m")).notices == []
        assert (len(one.requests["m"]), len(two.requests["m"])) == (1, 2)


async def test_the_least_busy_host_that_has_the_model(one: FakeOllama, two: FakeOllama) -> None:
    for fake in (one, two):
        fake.behave("m", Behaviour(seconds_before_first=0.2))
    two.behave("only", Behaviour())
    async with inference_on(one.url, two.url) as inference:
        answers = await asyncio.gather(*(inference.answer("m") for _ in range(6)))
        assert sorted(a.done.host for a in answers) == sorted([one.url, two.url] * 3)
        assert (await inference.answer("only")).done.host == two.url


async def test_nobody_waits_for_a_silent_host_while_another_has_the_model(one: FakeOllama, two: FakeOllama) -> None:
    one.silent = True
    two.behave("m", Behaviour())
    async with inference_on(one.url, two.url, model_list_seconds=0) as inference:
        async with asyncio.timeout(1):
            for _ in range(3):
                assert (await inference.answer("m")).done.host == two.url
        # It might be the silent one that has this.
        async with asyncio.timeout(4):
            with pytest.raises(ModelHostUnavailable, match=one.url):
                await inference.answer("unknown")
        one.silent = False
        with pytest.raises(ModelNotFound):
            await inference.answer("unknown")


async def test_a_model_that_has_just_been_pulled_is_found(one: FakeOllama) -> None:
    async with inference_on(one.url, model_list_seconds=60) as inference:
        with pytest.raises(ModelNotFound):
            await inference.answer("new")
        one.behave("new", Behaviour())
        assert (await inference.answer("new")).done
        asked = len(one.questions)
        assert (await inference.answer("new")).done
        assert len(one.questions) == asked


async def test_the_list_of_models_over_all_hosts(one: FakeOllama, two: FakeOllama) -> None:
    one.behave("both", Behaviour(capabilities=("completion", "tools")))
    two.behave("both", Behaviour())
    two.behave("e5", Behaviour(capabilities=("embedding",)))
    async with inference_on(one.url, two.url, ABSENT) as inference:
        answer = await inference.models()
        assert [(m.name, list(m.capabilities), list(m.hosts)) for m in answer.models] == [
            ("both", ["completion", "tools"], [one.url, two.url]),
            ("e5", ["embedding"], [two.url]),
        ]
        described = answer.models[0]
        assert (described.family, described.parameter_size, described.quantization) == ("fake", "1M", "Q0")
        assert (described.size_bytes, described.context_tokens) == (1, 4096)
        assert [(h.name, h.reachable, h.version) for h in answer.hosts] == [
            (one.url, True, "0.0.0-fake"),
            (two.url, True, "0.0.0-fake"),
            (ABSENT, False, ""),
        ]
        assert "does not answer" in answer.hosts[2].error
        shown = one.questions.count("/api/show")
        await inference.models()
        assert one.questions.count("/api/show") == shown
        dependency = await inference.dependency()
        assert dependency.healthy
        assert f"{one.url} has 0.0.0-fake" in dependency.detail
        assert f"{ABSENT} does not answer" in dependency.detail


async def test_a_silent_host_is_listed_as_such_in_time(one: FakeOllama) -> None:
    one.silent = True
    async with inference_on(one.url) as inference:
        async with asyncio.timeout(4):
            answer = await inference.models()
        assert [(h.reachable, h.name) for h in answer.hosts] == [(False, one.url)]
        async with asyncio.timeout(2):
            dependency = await inference.dependency()
        assert not dependency.healthy
        assert one.url in dependency.detail
