"""How fast log lines get from Redis into PostgreSQL: a part of `speed.py`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import batched
from typing import Any

import asyncpg
import orjson
from hearth_runtime.events import Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from measures import Measures, suspended
from storage_service.queries import load_queries
from systems import System

LINES_PER_TASK = 100
# The baseline is given fewer lines: its writer's pace does not depend on how many there are.
LINES_BY_RUNS = {"hearth": 15, "celery": 1}
LOAD_BATCH = 1000
BATCH = 500  # as log-service's
INSERT = load_queries("events")["append_events"]
PERSIST_SECONDS = 120.0
COLUMNS = (
    *("id", "task_id", "agent_id", "attempt", "kind", "level", "message", "context", "timestamp", "traceparent"),
    *("stream_id", "stream_ms", "stream_seq", "owner"),
)


async def persistence(measures: Measures) -> None:
    """Lines per second from the first that is read to the last that is committed, all of them waiting in Redis.

    Its writer is stopped while they are put there, so that the loader takes none of its time.
    """
    system = measures.system
    tasks = max(1, measures.bench.runs * LINES_BY_RUNS[system.name] // LINES_PER_TASK)
    rate = measures.figures["log lines persisted per second"] = await _persisted(system, _lines(tasks))
    if system.name == "hearth":
        copied, inserted = await _bare(system, _lines(tasks), _copy), await _bare(system, _lines(tasks), _insert)
        measures.figures["log lines per second by bare COPY into the same table"] = copied
        measures.figures["log lines per second by storage-service's bare INSERT"] = inserted
        measures.figures["log lines persisted, of what the faster of both reaches (%)"] = (
            100 * rate / max(copied, inserted)
        )


def _lines(tasks: int) -> list[Event]:
    """Log lines of so many tasks, one task after the other."""
    now, agent_id = datetime.now(UTC), new_id()
    return [
        Event(
            stream_id="",
            id=new_id(),
            task_id=task_id,
            agent_id=agent_id,
            attempt=1,
            kind=EventKind.LOG,
            level=EventLevel.INFO,
            message=f"read page {number} of the document and found nothing to add to what is known",
            context={"step": "act", "page": number},
            timestamp=now,
            traceparent="",
        )
        for task_id in [new_id() for _ in range(tasks)]
        for number in range(LINES_PER_TASK)
    ]


async def _persisted(system: System, events: Sequence[Event]) -> float:
    """Puts them into the stream; returns how many were persisted per second."""
    with suspended(system.log_writers()):
        async with system.redis() as redis:
            for some in batched(events, LOAD_BATCH):
                pipe = redis.pipeline(transaction=False)
                for event in some:
                    pipe.xadd(*system.log_entry(event))
                await pipe.execute()
    started = time.monotonic()
    async with asyncio.timeout(PERSIST_SECONDS):
        # They are persisted in their order, so that the last task's tell of all.
        while await _count(system, [events[-1].task_id]) < LINES_PER_TASK:
            await asyncio.sleep(0.02)
    seconds = time.monotonic() - started
    found = await _count(system, list({event.task_id for event in events}))
    if found != len(events):
        raise RuntimeError(f"{system.name} persisted {found} of {len(events)} log lines")
    return len(events) / seconds


async def _count(system: System, task_ids: Sequence[str]) -> int:
    """How many log lines of these tasks are persisted: both systems keep them in a table of the same name."""
    return int(
        await system.database.fetchval("SELECT count(*) FROM task_logs WHERE task_id = ANY ($1::uuid[])", task_ids)
    )


async def _bare(
    system: System, events: Sequence[Event], write: Callable[[asyncpg.Connection, Sequence[Any]], Awaitable[None]]
) -> float:
    """How many per second asyncpg alone brings into Hearth's table, a batch in each transaction."""
    first = await system.database.fetchval("SELECT max(stream_ms) + 1 FROM task_logs")
    rows = [
        (
            *(event.id, event.task_id, event.agent_id, event.attempt, event.kind, event.level, event.message),
            *(orjson.dumps(event.context).decode(), event.timestamp, event.traceparent),
            *(f"{first + number}-0", first + number, 0, event.owner),
        )
        for number, event in enumerate(events)
    ]
    started = time.monotonic()
    for some in batched(rows, BATCH):
        await write(system.database, some)
    return len(rows) / (time.monotonic() - started)


async def _copy(database: asyncpg.Connection, rows: Sequence[Any]) -> None:
    await database.copy_records_to_table("task_logs", records=rows, columns=COLUMNS)


async def _insert(database: asyncpg.Connection, rows: Sequence[Any]) -> None:
    await database.execute(INSERT, *map(list, zip(*rows, strict=True)))
