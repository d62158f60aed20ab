"""A limit on what runs at once, with a fair queue before it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from hearth_runtime.errors import ModelOverloaded


class FairSlots:
    """`limit` holders at once. Who waits is served by key in turn (round robin), and within a key in order.

    At most `queue` wait. One more is refused with ModelOverloaded, unless its key's line is shorter than the longest:
    then the last of that one is, so that one key cannot keep the others out.
    """

    def __init__(self, limit: int, *, queue: int) -> None:
        self._limit = limit
        self._queue = queue
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.active = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._lines.values())

    @contextmanager
    def place(self, key: str) -> Iterator[asyncio.Future[None]]:
        """A place in the line of `key`, as a future that is done once it is the holder of a slot.

        Leaving the context gives up the slot, or the place in the line. Raises ModelOverloaded, and so may the future.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.active < self._limit:
            self.active += 1
            turn.set_result(None)
        else:
            self._line_up(key, turn)
        try:
            yield turn
        finally:
            if not turn.done() or turn.cancelled():
                self._leave(key, turn)
            elif turn.exception() is None:
                self._release()

    def _line_up(self, key: str, turn: asyncio.Future[None]) -> None:
        if self.waiting >= self._queue:
            longest = max(self._lines.values(), key=len, default=deque())
            if len(self._lines.get(key, ())) + 1 >= len(longest):
                raise self._overloaded()
            longest.pop().set_exception(self._overloaded())
        self._lines.setdefault(key, deque()).append(turn)

    def _overloaded(self) -> ModelOverloaded:
        return ModelOverloaded(
            f"As many requests wait for this model host as may ({self._queue}, HEARTH_MODEL_QUEUE). "
            "Try again later, or add a host to OLLAMA_URL."
        )

    def _release(self) -> None:
        """Passes the slot to the next key's first in line, or frees it."""
        while self._lines:
            key, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if line:
                self._lines.move_to_end(key)
            else:
                del self._lines[key]
            if not turn.done():  # its waiter was cancelled, and has not yet left
                turn.set_result(None)
                return
        self.active -= 1

    def _leave(self, key: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(key)
        if line is not None and turn in line:
            line.remove(turn)
            if not line:
                del self._lines[key]
