"""The live window: the most recent events, in memory, in their order and by task."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter

from hearth_runtime.events import Event, StreamId
from prometheus_client import Gauge

from log_service.filters import EventFilter

# How much more than its size the window holds while persistence lags; then the tail waits.
HARD_FACTOR = 2
# How many entries one `read` looks through at most, so that a filter that seldom matches keeps nobody waiting.
SCAN_LIMIT = 2000
# What an entry costs beside its bytes in Redis.
ENTRY_OVERHEAD_BYTES = 1500

BEGINNING = StreamId(0, 0)

WINDOW_EVENTS = Gauge("hearth_window_events", "Events in the live window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event at its place, with its bytes in Redis."""

    place: StreamId
    event: Event
    size: int


_place_of = attrgetter("place")


class _Line:
    """Entries in their order, taken off at the head: a list, so that it can be bisected, compacted now and then."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._entries) - self._first

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def head(self) -> Entry:
        return self._entries[self._first]

    def drop_head(self) -> None:
        self._first += 1
        if self._first > len(self._entries) // 2:
            del self._entries[: self._first]
            self._first = 0

    def following(self, cursor: StreamId, *, limit: int) -> list[Entry]:
        start = bisect_right(self._entries, cursor, lo=self._first, key=_place_of)
        return self._entries[start : start + limit]


class Window:
    """Holds every event after `floor` and up to `end`; what lies before is in PostgreSQL.

    A subscriber is a cursor: it reads what lies after its place, and waits to be woken. The window knows nothing of
    it but the future that it waits for, so that a slow one costs no memory.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._all = _Line()
        self._by_task: dict[str, _Line] = {}
        self._bytes = 0
        self._waiting: dict[str | None, set[asyncio.Future[None]]] = {}
        self._awaited = asyncio.Event()
        self._evicted = asyncio.Event()
        self.floor = BEGINNING
        self.end = BEGINNING
        # Whether floor and end are known: not before Redis was read for the first time.
        self.ready = False
        # When events were added last, by time.monotonic().
        self.appended_at = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def restart(self, floor: StreamId) -> None:
        """Forgets all events; from now on those after `floor` are held."""
        self._all, self._by_task, self._bytes = _Line(), {}, 0
        self.floor = self.end = floor
        self.ready = True
        self._evicted.set()
        WINDOW_EVENTS.set(0)
        self.wake()

    def append(self, entries: Sequence[Entry], *, end: StreamId) -> None:
        """Adds events that follow all others, and wakes those who wait for them. `end` is the last place read."""
        for entry in entries:
            self._all.add(entry)
            self._by_task.setdefault(entry.event.task_id, _Line()).add(entry)
            self._bytes += entry.size + ENTRY_OVERHEAD_BYTES
        self.end = end
        self.appended_at = time.monotonic()
        WINDOW_EVENTS.set(len(self))
        for task_id in {entry.event.task_id for entry in entries}:
            self._wake(task_id)
        self._wake(None)

    def evict(self, watermark: StreamId) -> None:
        """Drops the oldest events beyond the window's size, but none after `watermark`."""
        while self._over(1) and len(self) > 0:
            entry = self._all.head()
            if entry.place > watermark:
                break
            of_task = self._by_task[entry.event.task_id]
            of_task.drop_head()
            if len(of_task) == 0:
                del self._by_task[entry.event.task_id]
            self._all.drop_head()
            self._bytes -= entry.size + ENTRY_OVERHEAD_BYTES
            self.floor = entry.place
        if not self._over(HARD_FACTOR):
            self._evicted.set()
        WINDOW_EVENTS.set(len(self))

    async def room(self) -> None:
        """Returns when more may be appended: at once, unless persistence lags far behind."""
        while self._over(HARD_FACTOR):
            self._evicted.clear()
            await self._evicted.wait()

    def read(self, wanted: EventFilter, *, cursor: StreamId, limit: int) -> tuple[list[Event], StreamId]:
        """The first events after `cursor` that match, `limit` at most, and the place up to which that is all.

        `cursor` must not lie before `floor`.
        """
        line = self._by_task.get(wanted.task_ids[0]) if len(wanted.task_ids) == 1 else self._all
        entries = line.following(cursor, limit=SCAN_LIMIT) if line is not None else []
        found: list[Event] = []
        for entry in entries:
            if wanted.matches(entry.event):
                found.append(entry.event)
                if len(found) == limit:
                    return found, entry.place
        if len(entries) == SCAN_LIMIT:
            return found, entries[-1].place
        return found, max(self.end, cursor)

    def following(self, cursor: StreamId) -> list[Event]:
        """All events after `cursor`."""
        return [entry.event for entry in self._all.following(cursor, limit=len(self))]

    async def changed(self, task_ids: Sequence[str], *, timeout: float) -> None:
        """Waits until an event of one of the tasks is read, or any where none is given; `timeout` seconds at most."""
        topics: Sequence[str | None] = tuple(task_ids) or (None,)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(woken)
        self._awaited.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await woken
        finally:
            for topic in topics:
                waiting = self._waiting.get(topic)
                if waiting is not None:
                    waiting.discard(woken)
                    if not waiting:
                        del self._waiting[topic]

    async def awaited(self, *, timeout: float) -> None:
        """Returns when somebody waits for events, `timeout` seconds later at most."""
        if not self._waiting:
            self._awaited.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._awaited.wait()

    def wake(self) -> None:
        """Wakes all who wait."""
        for topic in list(self._waiting):
            self._wake(topic)

    def _wake(self, topic: str | None) -> None:
        for woken in self._waiting.pop(topic, ()):
            if not woken.done():
                woken.set_result(None)

    def _over(self, factor: int) -> bool:
        return len(self) > factor * self._max_events or self._bytes > factor * self._max_bytes
