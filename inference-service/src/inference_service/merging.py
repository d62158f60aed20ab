"""Reading ahead of a slow consumer, without keeping more than a bound and without holding up what is read."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

MAX_AHEAD_CHARACTERS = 65_536


async def merged[T](
    source: AsyncGenerator[T], *, seconds: float | None, ahead: int = MAX_AHEAD_CHARACTERS
) -> AsyncGenerator[T]:
    """What `source` gives. Strings that have piled up since the consumer last asked come as one.

    While `ahead` characters are piled up, nothing more is asked of `source`. Closing this closes `source` at once.
    Raises what `source` raises, and TimeoutError after `seconds`, in both cases after what came before it.
    """
    piled: deque[Any] = deque()
    arrived, taken = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async with asyncio.timeout(seconds), aclosing(source):
            async for item in source:
                last = piled[-1] if piled else None
                if isinstance(item, str) and isinstance(last, str):
                    piled[-1] = last + item
                else:
                    piled.append(item)
                arrived.set()
                while sum(len(i) for i in piled if isinstance(i, str)) >= ahead:
                    taken.clear()
                    await taken.wait()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: arrived.set())
    try:
        while piled or not reading.done():
            if piled:
                item = piled.popleft()
                taken.set()
                yield item
            else:
                await arrived.wait()
                arrived.clear()
        reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
