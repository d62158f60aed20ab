"""The largest sizes: `make bench-large`. Hours at full size; `--rows`, `--chunks` and `--only` make it less.

On PostgreSQL servers of its own, which don't wait for the disk, with storage-service's own code:

- `history`: pages of events among 10,000,000, by task, agent, level and text, and deep ones by their cursors
- `growth`: what accepting, claiming and finishing a task with ten events takes among 10^5, 10^6 and 10^7 rows
- `queue`: the same while 10^2 to 10^5 tasks wait, of which each claim takes the one whose turn it is
- `search`: search by vectors among 100,000 and 1,000,000 chunks, beside the exact scan; see retrieval.py

Prints a table and puts the figures into benchmarks/results.json, beside those of `make bench`.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from hearth_runtime.events import Event, EventKind, EventLevel, StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Task, TaskStatus
from log_service.storage import SCAN_LIMIT
from measures import quantile, timed
from report import Row, save, table
from retrieval import measure
from rows import EVENTS_PER_TASK, Rows, order_of, task_id

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.postgres_server import PostgresServer
from storage_service.agents import AgentDraft, Agents
from storage_service.attempts import Attempts, Ending, Wanted
from storage_service.database import Database, open_database
from storage_service.events import EventFilter, Events
from storage_service.migrate import migrate
from storage_service.pages import Page
from storage_service.queue import Queue
from storage_service.queue_bounds import QueueBounds
from storage_service.settings import StorageSettings
from storage_service.tasks import NewTask, Tasks

PARTS = ("history", "growth", "queue", "search")
AGENTS = 100
SMALLEST = 100_000  # rows among which growth is measured first
QUEUED = (100, 1_000, 10_000, 100_000)
CALLERS = 8  # that fill the queue
PAGE_SIZE, DEEP_PAGE = 50, 1000
# However slow a kind of query is, so long it is measured at most, and at least three times.
SECONDS = 60.0
ANYTHING = EventFilter(
    task_ids=(), agent_ids=(), levels=(), kinds=(), contains=None, since=None, until=None, context={}
)
Figures = dict[str, float]


class History:
    """Pages of events."""

    def __init__(self, database: Database, rows: Rows, agent_ids: Sequence[str], calls: int) -> None:
        self._events = Events(database)
        self._rows = rows
        self._agent_ids = agent_ids
        self._calls = calls
        self._choice = random.Random(1)

    async def measure(self) -> Figures:
        """Milliseconds of each kind of query."""
        choice, tasks = self._choice, self._rows.tasks
        kinds: dict[str, Callable[[], EventFilter]] = {
            "by task": lambda: replace(ANYTHING, task_ids=(task_id(choice.randrange(tasks)),)),
            "by agent": lambda: replace(ANYTHING, agent_ids=(choice.choice(self._agent_ids),)),
            "by level": lambda: replace(
                ANYTHING, levels=choice.choice(((EventLevel.ERROR,), (EventLevel.WARNING,), tuple(EventLevel)[2:]))
            ),
            "by text that is frequent": lambda: replace(ANYTHING, contains=f"w{choice.randrange(100)}"),
            "by text that is rare": lambda: replace(ANYTHING, contains=order_of(choice.randrange(tasks))),
            "by text of a task": lambda: replace(
                ANYTHING, task_ids=(task_id(choice.randrange(tasks)),), contains="looked at"
            ),
        }
        size = f"{self._rows.events:,} rows"
        figures: Figures = {}
        for kind, where in kinds.items():
            took: list[float] = []
            until = time.monotonic() + SECONDS
            while len(took) < self._calls and (len(took) < 3 or time.monotonic() < until):
                took.append(await self._took(where(), descending=len(took) % 2 == 1))
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                figures[f"history {kind}, {name}, {size} (ms)"] = quantile(took, share)
        figures[f"history by text that is not there, all pages, {size} (ms)"] = await timed(
            self._all(replace(ANYTHING, contains="not there"))
        )
        for kind, where_all in (("", ANYTHING), (" by agent", replace(ANYTHING, agent_ids=(self._agent_ids[0],)))):
            first, deep = await self._deep(where_all)
            figures[f"history{kind}, page 1, p50, {size} (ms)"] = first
            figures[f"history{kind}, page {DEEP_PAGE:,}, p50, {size} (ms)"] = deep
            figures[f"history{kind}, page {DEEP_PAGE:,} beside page 1, {size} (times)"] = deep / first
        return figures

    async def _took(self, where: EventFilter, *, descending: bool, token: str = "") -> float:
        return await timed(self._page(where, descending=descending, token=token))

    async def _page(self, where: EventFilter, *, descending: bool, token: str) -> Page[Event]:
        """A page as log-service asks for it."""
        return await self._events.list(
            page_size=PAGE_SIZE,
            token=token,
            where=where,
            descending=descending,
            after=None,
            before=None,
            scan_limit=SCAN_LIMIT,
        )

    async def _all(self, where: EventFilter) -> None:
        token = (await self._page(where, descending=True, token="")).next_token
        while token:
            token = (await self._page(where, descending=True, token=token)).next_token

    async def _deep(self, where: EventFilter) -> tuple[float, float]:
        """Median milliseconds of the first page and of a deep one, which is reached page by page."""
        token = ""
        for _ in range(DEEP_PAGE - 1):
            page = await self._page(where, descending=True, token=token)
            token = page.next_token or token
        first, deep = [], []
        for _ in range(self._calls):
            first.append(await self._took(where, descending=True))
            deep.append(await self._took(where, descending=True, token=token))
        return quantile(first, 0.5), quantile(deep, 0.5)


class Growth:
    """What a task costs, whatever there is already."""

    def __init__(self, database: Database, agent_ids: Sequence[str], calls: int) -> None:
        settings = StorageSettings()
        # One more waits than the largest queue has.
        bounds = QueueBounds(database, in_all=2 * settings.queue_limit, per_agent=settings.queue_limit_per_agent)
        self._tasks = Tasks(database, bounds)
        self._attempts = Attempts(database)
        self._events = Events(database)
        self._queue = Queue(database)
        self._agent_ids = agent_ids
        self._calls = calls

    async def measure(self) -> float:
        """Median milliseconds of a task from its acceptance to its end, with its events and the sweep that settles
        the end."""
        took = [await timed(self._task(number)) for number in range(self._calls + self._calls // 4)]
        return quantile(took[self._calls // 4 :], 0.5)  # the first ones warm up

    async def fill(self, queued: int) -> None:
        """Accepts so many tasks, which wait from then on."""
        numbers = iter(range(queued))

        async def accept() -> None:
            for number in numbers:
                await self._accept(number)

        await asyncio.gather(*(accept() for _ in range(CALLERS)))

    async def _accept(self, number: int) -> Task:
        accepted, _ = await self._tasks.create(
            NewTask(
                id=new_id(),
                agent_id=self._agent_ids[number % len(self._agent_ids)],
                input={"prompt": "What became of the order?"},
                session_id=None,
                idempotency_key=None,
                request_hash="",
                traceparent="",
                user=None,
                tools=(),
            )
        )
        return accepted

    async def _task(self, number: int) -> None:
        accepted = await self._accept(number)
        claim = await self._attempts.claim(
            Wanted(worker_id="worker", lease=timedelta(seconds=30), queue=accepted.queue)
        )
        change = await self._attempts.finish(
            Ending(
                id=claim.task.id,
                attempt=claim.task.attempt,
                status=TaskStatus.COMPLETED,
                output={"text": "It was sent yesterday."},
                error_code=None,
                error_message=None,
                new_turns=(),
                checkpoints=(),
                next=None,
            )
        )
        ended = change.task.completed_at
        assert ended is not None
        now = time.time_ns() // 1_000_000
        await self._events.append(
            [
                Event(
                    stream_id=str(StreamId(now, place)),
                    id=new_id(),
                    task_id=claim.task.id,
                    agent_id=claim.task.agent_id,
                    attempt=claim.task.attempt,
                    kind=EventKind.STATUS if place == EVENTS_PER_TASK - 1 else EventKind.LOG,
                    level=EventLevel.INFO,
                    message="completed",
                    context={},
                    timestamp=ended if place == EVENTS_PER_TASK - 1 else datetime.now(UTC),
                    traceparent="",
                )
                for place in range(EVENTS_PER_TASK)
            ]
        )
        _, settled = await self._queue.settle_ends(limit=100, ended_before=timedelta())
        assert settled == 1


@asynccontextmanager
async def filled(url: str) -> AsyncIterator[tuple[Database, Rows, Sequence[str]]]:
    """A database that has agents, to be filled with rows."""
    settings = StorageSettings(database_url=url, database_call_seconds=600)
    await migrate(settings)
    connection = await asyncpg.connect(url)
    try:
        async with open_database(settings) as database:
            agents = Agents(database)
            draft = AgentDraft(
                id="", name="agent", description="", model_name="scripted:1", config=None, is_active=True
            )
            agent_ids = [(await agents.insert(replace(draft, id=new_id()))).id for _ in range(AGENTS)]
            rows = Rows(connection, agent_ids)
            await rows.prepare()
            yield database, rows, agent_ids
    finally:
        await connection.close()


async def among_rows(url: str, parts: Sequence[str], rows_in_all: int, calls: int) -> Figures:
    """History and growth, in one database that grows."""
    figures: Figures = {}
    async with filled(url) as (database, rows, agent_ids):
        size, sizes = SMALLEST, [rows_in_all]
        while "growth" in parts and size < rows_in_all:
            sizes.insert(-1, size)
            size *= 10
        took: dict[int, float] = {}
        for size in sizes:
            started = time.perf_counter()
            await rows.grow(size)
            sys.stderr.write(f"  {size:,} rows after {time.perf_counter() - started:,.0f} s\n")
            if "growth" in parts:
                took[size] = await Growth(database, agent_ids, calls).measure()
                figures[f"a task among {size:,} rows, p50 (ms)"] = took[size]
        if len(took) > 1:
            figures[f"a task among {sizes[-1]:,} rows beside {sizes[0]:,} (times)"] = took[sizes[-1]] / took[sizes[0]]
        if "history" in parts:
            figures |= await History(database, rows, agent_ids, calls).measure()
    return figures


async def among_queued(url: str, calls: int) -> Figures:
    """Growth while more and more tasks wait."""
    took: dict[int, float] = {}
    async with filled(url) as (database, _, agent_ids):
        growth = Growth(database, agent_ids, calls)
        for before, size in zip((0, *QUEUED), QUEUED, strict=False):
            started = time.perf_counter()
            await growth.fill(size - before)
            sys.stderr.write(f"  {size:,} tasks wait after {time.perf_counter() - started:,.0f} s\n")
            took[size] = await growth.measure()
    figures = {f"a task while {size:,} wait, p50 (ms)": value for size, value in took.items()}
    figures[f"a task while {QUEUED[-1]:,} wait beside {QUEUED[0]:,} (times)"] = took[QUEUED[-1]] / took[QUEUED[0]]
    return figures


async def search(url: str, chunks: int, queries: int) -> Figures:
    """Search by vectors, without a filter and with one that keeps 1 %."""
    kept = {"none": "", "1 %": " keeping 1 %"}
    found = await measure(url, chunks, 384, queries, words_per_chunk=0, filters=tuple(kept), tuned=tuple(kept))
    sys.stderr.write(f"  {chunks:,} chunks after {found['load_seconds']} s, index after {found['index_seconds']} s\n")
    figures: Figures = {}
    for where, text in kept.items():
        exact = found["searches"][where]["exact"]["per_second"]
        for way, measured in found["searches"][where].items():
            if way == "index":  # breadth 40, which stands there too
                continue
            name = f"search among {chunks:,}{text}, {'as it is' if way == 'vectors' else way}"
            figures[f"{name}, searches"] = measured["per_second"]
            if way != "exact":
                figures[f"{name}, recall@10 (share)"] = measured["recall@10"]
            if way != "exact" and where == "none":
                figures[f"{name}, speed beside the exact scan (times)"] = measured["per_second"] / exact
    return figures


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """The URL of a PostgreSQL server that goes at the end."""
    postgres = PostgresServer()
    postgres.start()
    try:
        yield postgres.get_uri()
    finally:
        postgres.remove()


async def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be given again")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows in task_logs, in thousands")
    parser.add_argument("--chunks", type=int, action="append", help="chunks to search; may be given again")
    parser.add_argument("--calls", type=int, default=200, help="how often each kind of query is measured")
    parser.add_argument("--dry", action="store_true", help="print the table and write nothing")
    options = parser.parse_args()
    parts = options.only or PARTS
    figures: Figures = {}
    if "history" in parts or "growth" in parts:
        async with server() as url:
            figures |= await among_rows(url, parts, options.rows, options.calls)
    if "queue" in parts:
        async with server() as url:
            figures |= await among_queued(url, options.calls)
    if "search" in parts:
        for chunks in options.chunks or (100_000, 1_000_000):
            async with server() as url:
                figures |= await search(url, chunks, options.calls)
    rows = [Row.of(name, {"hearth": value}) for name, value in figures.items()]
    sys.stdout.write(table(rows))
    if not options.dry:
        save(rows, parts=[f"{part} (large)" for part in parts])


if __name__ == "__main__":
    asyncio.run(main())
