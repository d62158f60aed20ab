"""Who may generate: slots, the tokens that all share, turns in order."""

import asyncio

import pytest
from hearth_local.models.admission import Admission, Busy


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_and_tokens_are_bounded() -> None:
    admission = Admission(slots=2, tokens=100, max_waiting=9)
    leave = await admission.enter(60)
    waiting = asyncio.create_task(admission.enter(60))
    await settle()
    assert not waiting.done()
    leave()
    second = await waiting
    third = await admission.enter(40)
    last = asyncio.create_task(admission.enter(0))
    await settle()
    assert not last.done()
    second()
    third()
    (await last)()


async def test_a_small_request_does_not_overtake_a_large_one() -> None:
    admission = Admission(slots=4, tokens=100, max_waiting=9)
    leave = await admission.enter(60)
    large = asyncio.create_task(admission.enter(80))
    await settle()
    small = asyncio.create_task(admission.enter(10))
    await settle()
    assert not small.done()
    leave()
    await asyncio.gather(large, small)


async def test_one_that_gives_up_frees_the_way_for_those_behind_it() -> None:
    admission = Admission(slots=4, tokens=100, max_waiting=9)
    await admission.enter(60)
    large = asyncio.create_task(admission.enter(80))
    await settle()
    small = asyncio.create_task(admission.enter(10))
    await settle()
    large.cancel()
    await small


async def test_one_that_gives_up_as_its_turn_comes_gives_it_back() -> None:
    admission = Admission(slots=1, tokens=100, max_waiting=9)
    leave = await admission.enter(100)
    first = asyncio.create_task(admission.enter(100))
    await settle()
    leave()
    first.cancel()
    await settle()
    async with asyncio.timeout(1):
        await admission.enter(100)


async def test_so_many_may_wait() -> None:
    admission = Admission(slots=0, tokens=100, max_waiting=1)
    waiting = asyncio.create_task(admission.enter(1))
    await settle()
    with pytest.raises(Busy):
        await admission.enter(1)
    waiting.cancel()
