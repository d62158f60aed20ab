"""Waiting for what must come, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.05


def until[T](probe: Callable[[], T], *, seconds: float = 20.0, what: str = "it") -> T:
    """Calls `probe` until it gives something true, and returns that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds:g} s; last seen: {value!r}")
        time.sleep(POLL_SECONDS)
    return value


async def eventually[T](
    probe: Callable[[], Awaitable[T]], *, seconds: float = 20.0, what: str = "it", poll_seconds: float = POLL_SECONDS
) -> T:
    """As `until`, for a probe that is awaited."""
    deadline = time.monotonic() + seconds
    while not (value := await probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds:g} s; last seen: {value!r}")
        await asyncio.sleep(poll_seconds)
    return value
