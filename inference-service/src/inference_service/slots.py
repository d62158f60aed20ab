"""A limit on what runs at once, with a fair queue before it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hearth_runtime.errors import ModelOverloaded


class FairSlots:
    """`limit` holders at once. Who waits is served by key in turn (round robin), and within a key in order.

    More than `queue` waiting is refused with ModelOverloaded.
    """

    def __init__(self, limit: int, *, queue: int) -> None:
        self._limit = limit
        self._queue = queue
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.active = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._waiting.values())

    @property
    def is_free(self) -> bool:
        """Whether the next one would not have to wait."""
        return self.active < self._limit

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[None]:
        """Waits for a slot and holds it."""
        await self._acquire(key)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, key: str) -> None:
        if self.is_free:
            self.active += 1
            return
        if self.waiting >= self._queue:
            raise ModelOverloaded(
                f"{self.waiting} requests wait for this model host already, which is as many as may "
                "(HEARTH_MODEL_QUEUE). Try again later, or add a host to OLLAMA_URL."
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it was given the slot just when its holder left
            else:
                self._leave(key, turn)
            raise

    def _release(self) -> None:
        """Passes the slot to the next key's first in line, or frees it."""
        while self._waiting:
            key, line = next(iter(self._waiting.items()))
            turn = line.popleft()
            if line:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            if not turn.done():
                turn.set_result(None)
                return
        self.active -= 1

    def _leave(self, key: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(key)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[key]
