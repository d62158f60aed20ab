"""Reading ahead: order is kept, what piles up is merged and bounded, ends and errors come last, a close is at once."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from inference_service.merging import merged


async def test_strings_that_pile_up_come_as_one_and_others_stay_between() -> None:
    async def source() -> AsyncGenerator[str | int]:
        for item in ("a", 1, "b", "c", 2, "d"):
            yield item

    assert [item async for item in merged(source(), seconds=None)] == ["a", 1, "bc", 2, "d"]


async def test_a_reader_that_keeps_up_gets_each_by_itself() -> None:
    async def source() -> AsyncGenerator[str]:
        for item in "abc":
            yield item
            await asyncio.sleep(0.01)

    assert [item async for item in merged(source(), seconds=None)] == ["a", "b", "c"]


async def test_no_more_is_read_ahead_than_the_bound() -> None:
    read = 0

    async def source() -> AsyncGenerator[str]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield "xx"

    items = merged(source(), seconds=None, ahead=10)
    length = len(await anext(items))
    for _ in range(20):
        await asyncio.sleep(0)
    assert (length, read) == (10, 10)
    async for item in items:
        length += len(item)
        assert len(item) <= 10
    assert length == 2000


async def test_an_error_comes_after_what_came_before_it() -> None:
    async def source() -> AsyncGenerator[str]:
        yield "a"
        raise LookupError("gone")

    items = merged(source(), seconds=None)
    assert await anext(items) == "a"
    with pytest.raises(LookupError, match="gone"):
        await anext(items)


async def test_the_time_is_bounded_for_the_source_even_where_nobody_reads() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    items = merged(source(), seconds=0.05)
    assert await anext(items) == "a"
    async with asyncio.timeout(2):
        await closed.wait()
    with pytest.raises(TimeoutError):
        await anext(items)


async def test_closing_closes_the_source_before_it_returns() -> None:
    closed = False

    async def source() -> AsyncGenerator[str]:
        nonlocal closed
        try:
            while True:
                yield "a"
                await asyncio.sleep(0.01)
        finally:
            closed = True

    items = merged(source(), seconds=None)
    await anext(items)
    await items.aclose()
    assert closed


async def test_cancelling_the_reader_closes_the_source() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            closed.set()

    async def read() -> None:
        async for _ in merged(source(), seconds=None):
            raise AssertionError

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert closed.is_set()
