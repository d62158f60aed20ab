"""Calls that a step makes side by side."""

import asyncio
from collections.abc import Awaitable, Iterable


async def side_by_side[T](calls: Iterable[Awaitable[T]]) -> list[T]:
    """What each gave, in their order. Raises the first error in that order once all have ended: none goes on after its
    step, and what was asked beside a call that failed is on record for a replay."""
    given: list[T] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        given.append(outcome)
    return given
