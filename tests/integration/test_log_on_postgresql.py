"""log-service on the real storage-service: what is replayed and what is live are one sequence, by one filter."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2
from hearth.log.v1 import log_service_pb2
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.codec import timestamp, to_message
from hearth_runtime.events import EVENTS_STREAM, Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from log_service.filters import EventFilter
from redis.asyncio import Redis
from servers.log_process import AGENT_ID, Received, event, log_process, of_task, publish, subscriber, whole
from system.waiting import eventually


async def finish(storage: Any, task_id: str) -> None:
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=task_id, attempt=1, status=task_pb2.Task.STATUS_COMPLETED)
    )


async def trimmed(redis: Redis, length: int) -> None:
    async def probe() -> bool:
        return bool(await redis.xlen(EVENTS_STREAM) <= length)

    await eventually(probe, what="a trimmed stream")


async def test_a_run_is_streamed_while_it_goes_and_replayed_when_it_is_over(
    redis: Redis, redis_url: str, storage: Any
) -> None:
    chance = random.Random(11)
    tasks = [await storage.new_task() for _ in range(3)]
    for task_id in tasks:
        await storage.claim(task_id)
    sent: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    kept: dict[str, list[str]] = {task_id: [] for task_id in tasks}

    async def worker(task_id: str) -> None:
        for number in range(60):
            events = [event(task_id, f"{number}.{i}") for i in range(8)]
            ids = await publish(redis, *events)
            kept[task_id] += ids
            sent[task_id] += ids
            await asyncio.sleep(chance.random() * 0.03)
        await finish(storage, task_id)
        last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
        ids = await publish(redis, last)
        kept[task_id] += ids
        sent[task_id] += ids
        await storage.sql("UPDATE tasks SET end_unsettled = false WHERE id = $1", task_id)

    async def client(stub: Any, task_id: str) -> list[str]:
        got = Received()
        while not got.end:
            left = chance.randint(1, 15)
            async for response in stub.StreamEvents(of_task(task_id, after=got.ids[-1] if got.ids else None)):
                got.take(response)
                left -= 1
                if left == 0 and not got.end:
                    break
            await asyncio.sleep(chance.random() * 0.2)
        return got.ids

    async with (
        log_process(redis_url, storage.settings.listen_address, window_events=60, event_batch=25) as log,
        asyncio.timeout(60),
    ):
        async with asyncio.TaskGroup() as group:
            clients = [(t, group.create_task(client(log.stub, t))) for t in tasks for _ in range(7)]
            for task_id in tasks:
                group.create_task(worker(task_id))
        for task_id, done in clients:
            assert done.result() == sent[task_id]
        await trimmed(redis, 60)
        for task_id in tasks:
            got = await whole(log.stub, of_task(task_id))
            assert (got.ids, got.end) == (kept[task_id], "completed")
        rows = await storage.sql("SELECT count(*) FROM task_logs")
        assert rows[0][0] == sum(map(len, kept.values()))


NOW = datetime.now(UTC)
AGENTS = (new_id(), new_id())
CONTEXTS: tuple[dict[str, Any], ...] = (
    {},
    {"n": 1},
    {"n": 1.5},
    {"n": 1e22},
    {"n": 1e-7},
    {"n": -0.0},
    {"n": True},
    {"n": None},
    {"n": "1"},
    {"n": {"bb": [1, "ü\t"], "a": None}},
    {"n": [1.0, {"x": "y"}]},
    {"m": "1"},
)
TEXTS = (
    "plain",
    "PLAIN talk",
    "50% off",
    "50 off",
    "a_b",
    "aXb",
    "back\\slash",
    "Ünïcode",
    "ünïCODE",
    "",
    "line\nbreak",
)


def various(chance: random.Random, task_id: str) -> Event:
    return event(
        task_id,
        chance.choice(TEXTS),
        agent_id=chance.choice(AGENTS),
        kind=chance.choice([k for k in EventKind if k is not EventKind.DELTA]),
        level=chance.choice(list(EventLevel)),
        context=chance.choice(CONTEXTS),
        timestamp=NOW + timedelta(microseconds=chance.randint(-5, 5)),
    )


FILTERS = (
    *(EventFilter(contains=text) for text in ("plain", "50%", "_", "\\", "ÜNÏ", "", "E\nb")),
    *(EventFilter(context={"n": text}) for text in ("1", "1.5", "1.0", "10000000000000000000000", "0.0000001", "0.0")),
    *(EventFilter(context={"n": text}) for text in ("true", "null", "", '{"a": null, "bb": [1, "ü\\t"]}')),
    EventFilter(context={"n": '[1.0, {"x": "y"}]'}),
    EventFilter(context={"n": "1", "m": "1"}),
    EventFilter(since=NOW),
    EventFilter(until=NOW),
    EventFilter(since=NOW - timedelta(microseconds=2), until=NOW + timedelta(microseconds=2)),
    EventFilter(levels=EventLevel.WARNING.and_worse(), kinds=(EventKind.LOG, EventKind.STATUS)),
    EventFilter(agent_ids=(AGENTS[0],), contains="off"),
)


async def test_a_filter_means_the_same_in_memory_and_in_postgresql(redis: Redis, redis_url: str, storage: Any) -> None:
    chance = random.Random(3)
    task_id = await storage.new_task()
    async with log_process(redis_url, storage.settings.listen_address) as log:
        for _ in range(4):
            await publish(redis, *(various(chance, task_id) for _ in range(100)))

        async def all_stored() -> bool:
            rows = await storage.sql("SELECT count(*) FROM task_logs WHERE task_id = $1", task_id)
            return bool(rows[0][0] == 400)

        await eventually(all_stored)
        matched = 0
        for wanted in FILTERS:
            message = to_message(wanted, log_service_pb2.EventFilter)
            message.task_ids.append(task_id)
            page = await log.stub.ListEvents(log_service_pb2.ListEventsRequest(page_size=500, filter=message))
            stored = [e.stream_id for e in page.events]
            request = log_service_pb2.StreamEventsRequest(filter=message, after_stream_id="0-0")
            async with subscriber(log.stub, request) as reader:

                async def as_many(reader: Any = reader, stored: list[str] = stored) -> bool:
                    return len(reader.received.ids) >= len(stored)

                await eventually(as_many, what=str(wanted), seconds=5)
                assert reader.received.ids == stored, wanted
            matched += len(stored)
        assert matched > 400


async def test_what_is_rare_is_replayed_though_most_pages_have_none_of_it(
    redis: Redis, redis_url: str, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("log_service.storage.SCAN_LIMIT", 3)
    task_id = await storage.new_task()
    async with log_process(redis_url, storage.settings.listen_address) as log:
        sent = await publish(redis, *(event(task_id, "rare" if n in (4, 19, 20) else "") for n in range(30)))

        async def stored() -> bool:
            rows = await storage.sql("SELECT count(*) FROM task_logs WHERE task_id = $1", task_id)
            return bool(rows[0][0] == 30)

        await eventually(stored)
        await log.stop()
        await redis.flushall()
    request = log_service_pb2.StreamEventsRequest(
        filter=log_service_pb2.EventFilter(task_ids=[task_id], contains="rare"), after_stream_id="0-0"
    )
    async with (
        log_process(redis_url, storage.settings.listen_address) as log,
        subscriber(log.stub, request) as reader,
    ):

        async def all_came() -> bool:
            return len(reader.received.ids) >= 3

        await eventually(all_came)
        assert reader.received.ids == [sent[n] for n in (4, 19, 20)]


@pytest.mark.parametrize("restarts", [True, False])
async def test_an_event_as_published_is_the_event_as_replayed(
    redis: Redis, redis_url: str, storage: Any, restarts: bool
) -> None:
    """From the window and from PostgreSQL alike."""
    task_id = await storage.new_task()
    made = event(
        task_id, "ü 😀", level=EventLevel.ERROR, context={"a": [1, {"b": None}], "x": 0.1}, traceparent="00-" + "1" * 32
    )
    async with log_process(redis_url, storage.settings.listen_address) as log:
        (place,) = await publish(redis, made)

        async def stored() -> bool:
            rows = await storage.sql("SELECT 1 FROM task_logs WHERE task_id = $1", task_id)
            return bool(rows)

        await eventually(stored)
        if restarts:
            await log.stop()
            await redis.flushall()
    async with (
        log_process(redis_url, storage.settings.listen_address) as log,
        subscriber(log.stub, of_task(task_id)) as reader,
    ):

        async def came() -> bool:
            return bool(reader.received.events)

        await eventually(came)
        (got,) = reader.received.events
        assert (got.stream_id, got.message, got.timestamp) == (place, "ü 😀", timestamp(made.timestamp))
        assert (got.id, got.task_id, got.agent_id, got.attempt) == (made.id, task_id, AGENT_ID, 1)
        assert got.traceparent == made.traceparent
