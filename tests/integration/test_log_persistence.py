"""Events are persisted: whole, in batches, whatever is away or wrong, and trimmed only then."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes.storage import FakeStorage, fake_storage
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.codec import timestamp
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind, StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import DEAD_STREAM, connect
from hearth_runtime.settings import RuntimeSettings
from log_service.consumer import GATHER_SECONDS
from log_service.entries import entries_of
from log_service.persistence import Persistence
from log_service.storage import StoredEvents
from log_service.tail import Tail
from log_service.watermark import WRITERS_GROUP, Watermark
from log_service.window import BEGINNING, Window
from prometheus_client import REGISTRY
from servers.log_process import LogProcess, event, log_process, of_task, publish, subscriber, whole
from servers.redis_server import RedisServer
from system.waiting import eventually


@pytest.fixture
async def storage() -> AsyncIterator[FakeStorage]:
    async with fake_storage() as opened:
        yield opened


async def holds(probe: Callable[[], bool], what: str = "it", seconds: float = 20) -> None:
    async def awaited() -> bool:
        return probe()

    await eventually(awaited, what=what, seconds=seconds)


def places(ids: list[str]) -> set[StreamId]:
    return {StreamId.parse(i) for i in ids}


async def metric(log: LogProcess, name: str) -> float:
    stub = runtime_service_pb2_grpc.RuntimeServiceStub(log.channel)
    text = (await stub.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_all_but_deltas_is_persisted_and_acknowledged(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    # Published before there was a consumer, or its group.
    sent = await publish(redis, *(event(new_id(), str(i), context={"n": [i]}) for i in range(30)))
    await publish(redis, event(new_id(), "d", kind=EventKind.DELTA))
    before = REGISTRY.get_sample_value("hearth_events_persisted_total") or 0
    async with log_process(redis_url, storage.address, event_batch=10) as log:
        sent += await publish(redis, event(new_id(), "after"))
        await holds(lambda: set(storage.events) == places(sent), "all events")

        async def acknowledged() -> bool:
            return bool((await redis.xpending(EVENTS_STREAM, WRITERS_GROUP))["pending"] == 0)

        await eventually(acknowledged)
        assert storage.events[StreamId.parse(sent[7])].context == '{"n":[7]}'
        assert await metric(log, "hearth_events_persisted_total") - before == 31
        assert await redis.xlen(DEAD_STREAM) == 0
        assert max(map(len, storage.appended)) == 10
        assert [p for batch in storage.appended for p in batch] == sorted(places(sent))


async def test_batches_gather_what_comes_meanwhile(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    async with log_process(redis_url, storage.address):
        began = time.monotonic()
        sent = [place for n in range(300) for place in await publish(redis, event(new_id(), str(n)))]
        await holds(lambda: set(storage.events) == places(sent), "all events")
        assert len(storage.appended) <= (time.monotonic() - began) / GATHER_SECONDS + 1


async def test_while_storage_is_away_nothing_is_lost_trimmed_or_reordered(
    redis: Any, redis_url: str, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with log_process(redis_url, storage.address, window_events=10, event_batch=5) as log:
        async with subscriber(log.stub, of_task(task_id)) as reader:
            sent = await publish(redis, event(task_id, "first"))
            await holds(lambda: len(storage.events) == 1)
            await storage.stop()
            sent += await publish(redis, *(event(task_id, str(i)) for i in range(60)))
            # The window is full and waits; what it holds is seen all the same.
            await holds(lambda: len(reader.received.events) > 20)
            await asyncio.sleep(0.5)
            assert await redis.xlen(EVENTS_STREAM) >= 60
            assert await metric(log, "hearth_event_lag_seconds") > 0.2
            await storage.start()
            await holds(lambda: set(storage.events) == places(sent), "all events")
            await holds(lambda: reader.received.ids == sent, "all of them live")
        assert [p for batch in storage.appended for p in batch] == sorted(places(sent))

        async def trimmed() -> bool:
            return bool(await redis.xlen(EVENTS_STREAM) <= 10)

        await eventually(trimmed, what="a trimmed stream")

        async def no_lag() -> bool:
            return await metric(log, "hearth_event_lag_seconds") == 0

        await eventually(no_lag)


async def test_what_is_no_event_goes_to_the_dead(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    storage.refused = "REFUSE"
    good = event(new_id(), "good")
    unspecified = event_pb2.Event(id=new_id(), task_id=new_id(), agent_id=new_id(), message="x").SerializeToString()
    no_object = event_pb2.Event(
        id=new_id(),
        task_id=new_id(),
        agent_id=new_id(),
        kind=event_pb2.Event.KIND_LOG,
        level=event_pb2.Event.LEVEL_INFO,
        context="[1]",
        timestamp=timestamp(datetime.now(UTC)),
    ).SerializeToString()
    await redis.xadd(EVENTS_STREAM, {EVENT_FIELD: b"\xff\xff rubbish"})
    await publish(redis, good)
    await redis.xadd(EVENTS_STREAM, {b"other": b"field"})
    await redis.xadd(EVENTS_STREAM, {EVENT_FIELD: unspecified})
    await redis.xadd(EVENTS_STREAM, {EVENT_FIELD: no_object})
    refused = await publish(redis, event("not-a-uuid", "x"), event(new_id(), "REFUSE this"), event(new_id(), "fine"))
    dead_before = REGISTRY.get_sample_value("hearth_events_dead_total") or 0
    async with log_process(redis_url, storage.address) as log:
        await holds(lambda: sorted(e.message for e in storage.events.values()) == ["fine", "good"])

        async def six_dead() -> bool:
            return bool(await redis.xlen(DEAD_STREAM) == 6)

        await eventually(six_dead)
        dead = [fields for _, fields in await redis.xrange(DEAD_STREAM)]
        assert dead[0][b"event"] == b"\xff\xff rubbish"
        assert b"decoded" in dead[0][b"reason"]
        assert b"no field" in dead[1][b"reason"]
        assert b"kind is missing" in dead[2][b"reason"]
        assert b"no JSON object" in dead[3][b"reason"]
        assert b"task_id is no UUID" in dead[4][b"reason"]
        assert (b"refused" in dead[5][b"reason"], dead[5][b"id"]) == (True, refused[1].encode())
        assert {fields[b"stream"] for fields in dead} == {EVENTS_STREAM.encode()}

        async def acknowledged() -> bool:
            return bool((await redis.xpending(EVENTS_STREAM, WRITERS_GROUP))["pending"] == 0)

        await eventually(acknowledged)
        assert await metric(log, "hearth_events_dead_total") - dead_before == 6


async def test_a_fault_that_one_event_provokes_does_not_hold_up_the_others(redis: Any, storage: FakeStorage) -> None:
    storage.fault = "FAULT"
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    messages = ["a", "b", "FAULT", "c", "d"]
    await publish(redis, *(event(new_id(), message) for message in messages))
    ((_, raw),) = await redis.xreadgroup(WRITERS_GROUP, "me", {EVENTS_STREAM: ">"})
    async with open_channel("storage", storage.address, RuntimeSettings(rpc_timeout_seconds=2)) as channel:
        persistence = Persistence(redis, StoredEvents(channel), asyncio.Event(), traced=False, tries_of_event=2)
        await persistence.persist(entries_of(raw), given_up={})
    assert [e.message for e in storage.events.values()] == ["a", "b", "c", "d"]
    assert await redis.xlen(DEAD_STREAM) == 1
    assert (await redis.xpending(EVENTS_STREAM, WRITERS_GROUP))["pending"] == 0


async def test_a_dead_consumers_entries_are_taken_over(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    sent = await publish(redis, *(event(new_id(), str(i)) for i in range(10)))
    taken = await redis.xreadgroup(WRITERS_GROUP, "dead", {EVENTS_STREAM: ">"}, count=6)
    # One was deleted by somebody; it must not hold up the watermark for ever.
    await redis.xdel(EVENTS_STREAM, taken[0][1][0][0])
    async with log_process(redis_url, storage.address, event_claim_seconds=0.5, window_events=10):
        await holds(lambda: set(storage.events) == places(sent[1:]), "all but the deleted event")

        async def acknowledged() -> bool:
            return bool((await redis.xpending(EVENTS_STREAM, WRITERS_GROUP))["pending"] == 0)

        await eventually(acknowledged)


async def test_what_kills_its_consumers_is_given_up(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    (sent,) = await publish(redis, event(new_id(), "deadly"))
    await redis.xreadgroup(WRITERS_GROUP, "dead", {EVENTS_STREAM: ">"})
    await redis.xclaim(EVENTS_STREAM, WRITERS_GROUP, "dead", 0, [sent], retrycount=30)
    async with log_process(redis_url, storage.address, event_claim_seconds=0.3):

        async def one_dead() -> bool:
            return bool(await redis.xlen(DEAD_STREAM) == 1)

        await eventually(one_dead)
        assert b"31 times" in (await redis.xrange(DEAD_STREAM))[0][1][b"reason"]
        assert not storage.events


async def test_nothing_is_trimmed_that_another_consumer_has_not_persisted(
    redis: Any, redis_url: str, storage: FakeStorage
) -> None:
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    sent = await publish(redis, *(event(new_id(), str(i)) for i in range(3)))
    await redis.xreadgroup(WRITERS_GROUP, "slow", {EVENTS_STREAM: ">"}, count=2)
    await redis.xack(EVENTS_STREAM, WRITERS_GROUP, sent[0])
    async with log_process(redis_url, storage.address, window_events=10, event_claim_seconds=3600):
        for _ in range(10):
            sent += await publish(redis, *(event(new_id(), "x") for _ in range(10)))
        await holds(lambda: len(storage.events) == 101)

        async def first_trimmed() -> bool:
            return bool((await redis.xrange(EVENTS_STREAM, count=1))[0][0].decode() == sent[1])

        await eventually(first_trimmed)
        await asyncio.sleep(0.5)
        assert await first_trimmed()
        await redis.xack(EVENTS_STREAM, WRITERS_GROUP, sent[1])

        async def trimmed() -> bool:
            return bool(await redis.xlen(EVENTS_STREAM) == 10)

        await eventually(trimmed)


async def test_after_flushall_events_are_live_and_persisted_again(
    redis: Any, redis_url: str, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with log_process(redis_url, storage.address) as log, subscriber(log.stub, of_task(task_id)) as reader:
        sent = await publish(redis, event(task_id, "a"))
        await holds(lambda: set(storage.events) == places(sent))
        await redis.flushall()
        sent += await publish(redis, event(task_id, "b"))
        await holds(lambda: reader.received.ids == sent, "both events live")
        await holds(lambda: set(storage.events) == places(sent), "both events persisted")
        # What was shown and not yet persisted when Redis forgot it is persisted all the same.
        await storage.stop()
        sent += await publish(redis, event(task_id, "c"), event(task_id, "d"))
        await holds(lambda: reader.received.ids == sent)
        await redis.flushall()
        sent += await publish(redis, event(task_id, "e"))
        await holds(lambda: reader.received.ids == sent)
        await storage.start()
        await holds(lambda: set(storage.events) == places(sent), "all events persisted")
        storage.set_task(task_id, "completed", end_settled=True)
        assert (await whole(log.stub, of_task(task_id))).ids == sent


async def test_of_what_redis_lost_the_refused_are_dead_and_the_others_kept(redis: Any, storage: FakeStorage) -> None:
    storage.refused = "REFUSE"
    lost = [
        event(new_id(), message, kind=kind, stream_id=f"{n + 1}-0")
        for n, (message, kind) in enumerate(
            [("a", EventKind.LOG), ("REFUSE", EventKind.LOG), ("d", EventKind.DELTA), ("b", EventKind.LOG)]
        )
    ]
    async with open_channel("storage", storage.address, RuntimeSettings(rpc_timeout_seconds=2)) as channel:
        persistence = Persistence(redis, StoredEvents(channel), asyncio.Event(), traced=False)
        await persistence.store_lost(lost)
    assert {str(place): e.message for place, e in storage.events.items()} == {"1-0": "a", "4-0": "b"}
    ((_, fields),) = await redis.xrange(DEAD_STREAM)
    assert fields[b"id"] == b"2-0"
    assert Event.decode(fields[b"event"], stream_id="2-0") == lost[1]


async def test_redis_may_be_away_at_start_and_go_and_come(own_redis_server: RedisServer, storage: FakeStorage) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with (
        log_process(own_redis_server.url, storage.address) as log,
        subscriber(log.stub, of_task(task_id)) as reader,
    ):
        assert reader.received.heartbeats == 1
        await asyncio.to_thread(own_redis_server.start)
        async with connect(own_redis_server.url) as redis:
            sent = await publish(redis, event(task_id, "a"))
            await holds(lambda: reader.received.ids == sent, "the first event live")
            await holds(lambda: set(storage.events) == places(sent))
            await asyncio.to_thread(own_redis_server.stop)
            await asyncio.sleep(1)
            await asyncio.to_thread(own_redis_server.start)
            sent += await publish(redis, event(task_id, "b"))
            await holds(lambda: reader.received.ids == sent, "the second event live")
            await holds(lambda: set(storage.events) == places(sent), "the second event persisted")


async def test_a_tail_that_fell_behind_what_was_trimmed_leaves_it_to_postgresql(redis: Any) -> None:
    window, watermark = Window(max_events=100, max_bytes=1 << 20), Watermark(redis)
    rescued: list[Event] = []
    tail = Tail(redis, window, watermark, batch=100, rescue=rescued.extend)

    async def follow_until(place: str) -> None:
        stopping = asyncio.Event()
        running = asyncio.create_task(tail.run(stopping))
        await holds(lambda: str(window.end) == place)
        stopping.set()
        await running

    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    sent = await publish(redis, *(event(new_id(), str(i)) for i in range(10)))
    await follow_until(sent[9])
    sent += await publish(redis, *(event(new_id(), str(i)) for i in range(10)))
    # Another log-service persisted and trimmed meanwhile.
    await redis.xreadgroup(WRITERS_GROUP, "other", {EVENTS_STREAM: ">"})
    await redis.xack(EVENTS_STREAM, WRITERS_GROUP, *sent)
    await redis.xtrim(EVENTS_STREAM, minid=sent[15], approximate=False)
    sent += await publish(redis, event(new_id(), "new"))
    await follow_until(sent[20])
    assert [e.stream_id for e in window.following(BEGINNING)] == sent[15:]
    assert StreamId.parse(sent[14]) <= window.floor < StreamId.parse(sent[15])
    assert rescued == []


async def test_a_stop_finishes_the_batch_in_hand(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    async with log_process(redis_url, storage.address) as log:
        sent = await publish(redis, *(event(new_id(), str(i)) for i in range(2000)))
        await holds(lambda: len(storage.events) > 0)
        await log.stop()
    async with log_process(redis_url, storage.address, event_claim_seconds=0.5):
        await holds(lambda: set(storage.events) == places(sent), "all events")


async def test_a_stop_does_not_wait_for_storage(redis: Any, redis_url: str, storage: FakeStorage) -> None:
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    sent = await publish(redis, *(event(new_id(), str(i)) for i in range(10)))
    await redis.xreadgroup(WRITERS_GROUP, "dead", {EVENTS_STREAM: ">"}, count=5)
    await storage.stop()
    async with log_process(redis_url, storage.address, event_claim_seconds=0.3, rpc_timeout_seconds=60) as log:

        async def taken() -> bool:
            consumers = await redis.xinfo_consumers(EVENTS_STREAM, WRITERS_GROUP)
            return bool(sum(c["pending"] for c in consumers) == 10)

        await eventually(taken)
        started = time.monotonic()
        await log.stop()
        assert time.monotonic() - started < 6
    await storage.start()
    async with log_process(redis_url, storage.address, event_claim_seconds=0.3):
        await holds(lambda: set(storage.events) == places(sent), "all events")


async def test_a_replica_that_starts_has_the_window_of_the_first(
    redis: Any, redis_url: str, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with log_process(redis_url, storage.address, window_events=20):
        sent = await publish(redis, *(event(task_id, str(i), kind=EventKind.DELTA) for i in range(100)))

        async def trimmed() -> bool:
            return bool(await redis.xlen(EVENTS_STREAM) == 20)

        await eventually(trimmed)
        async with log_process(redis_url, storage.address, window_events=20) as second:
            # Deltas are in Redis alone: those of the window can be resumed.
            async with subscriber(second.stub, of_task(task_id, after=sent[85])) as reader:
                await holds(lambda: reader.received.ids == sent[86:])
            async with subscriber(second.stub, of_task(task_id)) as reader:
                await holds(lambda: reader.received.ids == sent[80:])


async def test_events_of_no_task_in_particular_are_streamed_by_all_replicas(
    redis: Any, redis_url: str, storage: FakeStorage
) -> None:
    everything = log_service_pb2.StreamEventsRequest()
    async with (
        log_process(redis_url, storage.address, event_batch=7) as one,
        log_process(redis_url, storage.address, event_batch=7) as two,
        subscriber(one.stub, everything) as first,
        subscriber(two.stub, everything) as second,
    ):
        sent: list[str] = []
        for _ in range(20):
            sent += await publish(redis, *(event(new_id(), "x") for _ in range(25)))
        await holds(lambda: first.received.ids == second.received.ids == sent, "all events on both")
        await holds(lambda: set(storage.events) == places(sent), "all events persisted")
        # Each was persisted by one of them.
        assert sum(map(len, storage.appended)) == len(sent)
