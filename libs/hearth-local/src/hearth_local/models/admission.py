"""Who may generate now: conversations share llama.cpp's context, and overfilling it would fail them all."""

import asyncio
from collections import deque
from collections.abc import Callable


class Busy(Exception):
    """More requests wait than may."""


class Admission:
    """At most `slots` generations at a time, of at most `tokens` together; first come, first served."""

    def __init__(self, *, slots: int, tokens: int, max_waiting: int) -> None:
        self._slots = slots
        self._tokens = tokens
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, tokens: int) -> Callable[[], None]:
        """Waits until there is room for `tokens`; returns what gives it back, to be called once. Raises Busy."""
        if not self._waiting and self._fits(tokens):
            self._take(tokens)
        else:
            await self._wait(tokens)
        return lambda: self._give_back(tokens)

    async def _wait(self, tokens: int) -> None:
        if len(self._waiting) >= self._max_waiting:
            raise Busy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (tokens, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            elif turn.done() and not turn.cancelled():  # its turn had just come
                self._give_back(tokens)
            raise

    def _fits(self, tokens: int) -> bool:
        return self._slots > 0 and tokens <= self._tokens

    def _take(self, tokens: int) -> None:
        self._slots -= 1
        self._tokens -= tokens

    def _give_back(self, tokens: int) -> None:
        self._slots += 1
        self._tokens += tokens
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            tokens, turn = self._waiting.popleft()
            if not turn.done():
                self._take(tokens)
                turn.set_result(None)
