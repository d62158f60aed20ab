"""Places at a host: who waits, in which order, and what a cancel gives back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fakes.ollama import Behaviour, FakeOllama
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth_runtime.errors import ModelOverloaded
from servers.inference import Heard, Inference, inference_on
from system.waiting import eventually

ENDLESS = Behaviour(pieces=("word ",) * 100_000, seconds_between=0.01)


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama() as opened:
        yield opened


@pytest.fixture
async def inference(fake: FakeOllama) -> AsyncIterator[Inference]:
    async with inference_on(fake.url, model_concurrency=1, model_queue=4) as opened:
        yield opened


async def busy(inference: Inference, *, active: int, waiting: int) -> None:
    """Returns when the host is as busy as that."""

    async def is_so() -> bool:
        host = (await inference.models()).hosts[0]
        return (host.active_requests, host.waiting_requests) == (active, waiting)

    await eventually(is_so, seconds=5, what=f"{active} active, {waiting} waiting")


async def test_waiting_requests_are_taken_from_each_key_in_turn(inference: Inference, fake: FakeOllama) -> None:
    all_wait = asyncio.Event()
    fake.behave("m", Behaviour(after=all_wait), Behaviour(seconds_before_first=0.05))
    asked: list[asyncio.Task[Heard]] = []
    for number, key in enumerate(("a", "a", "a", "b", "c")):
        messages = [pb.ChatMessage(role="user", content=f"{key}{number}")]
        asked.append(asyncio.create_task(inference.answer("m", key=key, messages=messages)))
        await busy(inference, active=1, waiting=number)
    all_wait.set()
    answers = await asyncio.gather(*asked)
    order = [r.body["messages"][0]["content"] for r in fake.requests["m"]]
    assert order == ["a0", "a1", "b3", "c4", "a2"]
    assert [a.notices for a in answers] == [[], *[["queued"]] * 4]
    assert answers[2].done.queue_seconds > 0.15  # three answers
    assert answers[0].done.queue_seconds < answers[2].done.queue_seconds


async def test_a_full_queue_refuses_but_not_whoever_has_less_in_it(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(seconds_before_first=1))
    asked = []
    for waiting in range(5):
        asked.append(asyncio.create_task(inference.answer("m", key="hog")))
        await busy(inference, active=1, waiting=waiting)
    with pytest.raises(ModelOverloaded, match="HEARTH_MODEL_QUEUE"):
        await inference.answer("m", key="hog")
    guest = asyncio.create_task(inference.answer("m", key="guest"))
    with pytest.raises(ModelOverloaded):
        await asked[-1]
    for task in (*asked, guest):
        task.cancel()
    await asyncio.gather(*asked, guest, return_exceptions=True)
    await busy(inference, active=0, waiting=0)


async def test_a_cancel_closes_the_request_at_once_and_frees_its_place(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", ENDLESS, Behaviour())
    loop = asyncio.get_running_loop()
    call = inference.chat("m")
    async for item in call:
        if item.text:
            break
    waiting = asyncio.create_task(inference.answer("m"))
    await busy(inference, active=1, waiting=1)
    cancelled = loop.time()
    call.cancel()
    received = fake.requests["m"][0]
    async with asyncio.timeout(2):
        await received.done.wait()
    assert received.disconnected
    assert received.done_at - cancelled < 0.3
    assert (await waiting).text == "one two three"


async def test_a_cancel_before_the_first_token(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", Behaviour(stall_after=0))
    asked = asyncio.create_task(inference.answer("m"))
    await busy(inference, active=1, waiting=0)

    async def is_asked() -> bool:
        return bool(fake.requests["m"])

    await eventually(is_asked)
    cancelled = asyncio.get_running_loop().time()
    asked.cancel()
    async with asyncio.timeout(2):
        await fake.requests["m"][0].done.wait()
    assert fake.requests["m"][0].done_at - cancelled < 0.3
    assert await inference.metric("hearth_model_requests_total", outcome="cancelled", host=fake.url) == 1


async def test_a_cancel_while_its_reader_does_not_read(inference: Inference, fake: FakeOllama) -> None:
    """The server is then waiting to write, not for the model."""
    fake.behave("m", Behaviour(pieces=("x" * 60_000,) * 10, seconds_between=0.001, stall_after=9))
    call = inference.chat("m")
    async for item in call:
        if item.text:
            break

    async def is_stuck() -> bool:
        return await inference.metric("hearth_model_active_requests", host=fake.url) == 1

    await eventually(is_stuck)
    await asyncio.sleep(0.2)
    cancelled = asyncio.get_running_loop().time()
    call.cancel()
    async with asyncio.timeout(2):
        await fake.requests["m"][0].done.wait()
    assert fake.requests["m"][0].done_at - cancelled < 0.3
    await busy(inference, active=0, waiting=0)


async def test_a_request_cancelled_in_the_queue_leaves_it(inference: Inference, fake: FakeOllama) -> None:
    fake.behave("m", ENDLESS, Behaviour())
    first = asyncio.create_task(inference.answer("m"))
    await busy(inference, active=1, waiting=0)
    queued = [asyncio.create_task(inference.answer("m")) for _ in range(2)]
    await busy(inference, active=1, waiting=2)
    queued[0].cancel()
    await busy(inference, active=1, waiting=1)
    first.cancel()
    assert (await queued[1]).done
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert len(fake.requests["m"]) == 2
    await busy(inference, active=0, waiting=0)
