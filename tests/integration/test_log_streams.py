"""Streams of events: in order, each once, from PostgreSQL and live, and ended by the task's row."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.storage import FakeStorage, fake_storage
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth_runtime.errors import InvalidArgument, SubscriptionNotFound, TaskNotFound, TooManyStreams, Unavailable
from hearth_runtime.events import EVENTS_STREAM, EventKind, StreamId
from hearth_runtime.identifiers import new_id
from log_service.storage import SCAN_LIMIT
from log_service.streams import ROW_SECONDS
from redis.asyncio import Redis
from servers.log_process import AGENT_ID, LogProcess, Received, event, log_process, of_task, publish, subscriber, whole
from system.waiting import eventually


@pytest.fixture
async def storage() -> AsyncIterator[FakeStorage]:
    async with fake_storage() as opened:
        yield opened


@pytest.fixture
async def log(redis: Redis, redis_url: str, storage: FakeStorage) -> AsyncIterator[LogProcess]:
    async with log_process(redis_url, storage.address) as opened:
        yield opened


async def persisted(storage: FakeStorage, count: int) -> None:
    async def probe() -> bool:
        return len(storage.events) >= count

    await eventually(probe, what=f"{count} persisted events")


async def received(got: Received, count: int) -> None:
    async def probe() -> bool:
        return len(got.events) >= count

    await eventually(probe, what=f"{count} received events")


async def row_was_read(storage: FakeStorage, *, after: int) -> bool:
    return storage.row_reads > after


async def test_a_run_is_seen_live_and_ends(
    log: LogProcess, redis: Redis, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("log_service.streams.ROW_SECONDS", 3600)
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with subscriber(log.stub, of_task(task_id)) as reader:
        assert reader.received.heartbeats == 1
        sent = await publish(redis, event(task_id, "a"), event(new_id(), "another's"))
        sent += await publish(redis, event(task_id, "pie", kind=EventKind.DELTA))
        storage.set_task(task_id, "completed")
        last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
        sent += await publish(redis, last)
        await asyncio.wait_for(reader.done, 20)
    assert reader.received.ids == [sent[0], sent[2], sent[3]]
    assert reader.received.messages == ["a", "pie", "completed"]
    assert reader.received.end == "completed"


async def test_a_finished_task_is_replayed_and_ends_at_once(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    task_id = new_id()
    sent = await publish(redis, *(event(task_id, str(i)) for i in range(5)))
    await persisted(storage, 5)
    storage.set_task(task_id, "failed", end_settled=True)
    started = time.monotonic()
    got = await whole(log.stub, of_task(task_id))
    assert (got.ids, got.end) == (sent, "failed")
    # With an id that it has seen, only what follows.
    got = await whole(log.stub, of_task(task_id, after=sent[2]))
    assert (got.ids, got.end) == (sent[3:], "failed")
    got = await whole(log.stub, of_task(task_id, after=sent[4]))
    assert (got.ids, got.end) == ([], "failed")
    assert time.monotonic() - started < 3 * ROW_SECONDS


async def test_a_stream_ends_by_the_row_when_the_last_event_is_nowhere_to_be_seen(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with subscriber(log.stub, of_task(task_id)) as reader:
        sent = await publish(redis, event(task_id, "a"))
        storage.set_task(task_id, "failed")
        before = storage.row_reads
        await eventually(lambda: row_was_read(storage, after=before))
        assert not reader.done.done()
        storage.set_task(task_id, "failed", end_settled=True)
        # Others go on, which is no reason to wait.
        while not reader.done.done():
            await publish(redis, event(new_id(), "noise"))
            await asyncio.sleep(0.02)
    assert (reader.received.ids, reader.received.end) == (sent, "failed")


async def test_a_last_event_that_comes_late_is_not_lost(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    task_id = new_id()
    storage.set_task(task_id, "completed")
    before = storage.row_reads
    async with subscriber(log.stub, of_task(task_id)) as reader:
        await eventually(lambda: row_was_read(storage, after=before))
        assert not reader.done.done()
        last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
        sent = await publish(redis, event(task_id, "straggler"), last)
        await asyncio.wait_for(reader.done, 5)
    assert (reader.received.ids, reader.received.end) == (sent, "completed")


async def test_the_end_is_noticed_though_status_events_are_not_wanted(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with subscriber(log.stub, of_task(task_id, kinds=[event_pb2.Event.KIND_DELTA])) as reader:
        storage.set_task(task_id, "completed")
        last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
        await publish(redis, event(task_id, "x", kind=EventKind.DELTA), event(task_id, "no"), last)
        await asyncio.wait_for(reader.done, 1)
    assert (reader.received.messages, reader.received.end) == (["x"], "completed")


async def test_what_is_wrong_is_said(log: LogProcess, storage: FakeStorage) -> None:
    with pytest.raises(TaskNotFound):
        await whole(log.stub, of_task(new_id()))
    with pytest.raises(InvalidArgument, match="exactly one task"):
        await whole(log.stub, log_service_pb2.StreamEventsRequest(until_end=True))
    with pytest.raises(InvalidArgument, match="after_stream_id"):
        await whole(log.stub, of_task(new_id(), after="yesterday"))
    with pytest.raises(InvalidArgument, match="levels"):
        await whole(
            log.stub,
            log_service_pb2.StreamEventsRequest(
                filter=log_service_pb2.EventFilter(levels=[event_pb2.Event.LEVEL_UNSPECIFIED])
            ),
        )
    with pytest.raises(InvalidArgument, match="task_ids"):
        await whole(log.stub, of_task("me"))
    with pytest.raises(InvalidArgument, match="page_size"):
        await log.stub.ListEvents(log_service_pb2.ListEventsRequest(page_size=501))
    with pytest.raises(SubscriptionNotFound):
        await log.stub.GetSubscription(log_service_pb2.GetSubscriptionRequest(name="nobody"))


async def test_a_stream_of_several_begins_now_and_is_filtered(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    await publish(redis, event(new_id(), "before"))
    wanted = log_service_pb2.EventFilter(agent_ids=[AGENT_ID], contains="needle", context={"n": "2"})
    async with subscriber(log.stub, log_service_pb2.StreamEventsRequest(filter=wanted)) as reader:
        sent = await publish(
            redis,
            event(new_id(), "a NEEDLE", context={"n": 2}),
            event(new_id(), "a needle", context={"n": 3}),
            event(new_id(), "hay", context={"n": 2}),
            event(new_id(), "a needle", agent_id=new_id(), context={"n": 2}),
            event(new_id(), "needles", context={"n": "2"}),
        )
        await received(reader.received, 2)
        assert reader.received.ids == [sent[0], sent[4]]


async def test_an_idle_stream_has_heartbeats(redis: Redis, redis_url: str, storage: FakeStorage) -> None:
    async with (
        log_process(redis_url, storage.address, stream_heartbeat_seconds=0.1) as log,
        subscriber(log.stub, log_service_pb2.StreamEventsRequest()) as reader,
    ):

        async def probe() -> bool:
            return reader.received.heartbeats >= 4

        await eventually(probe)


async def test_streams_are_bounded_and_given_back(redis: Redis, redis_url: str, storage: FakeStorage) -> None:
    async with log_process(redis_url, storage.address, max_streams=1) as log:
        async with subscriber(log.stub, log_service_pb2.StreamEventsRequest()):
            with pytest.raises(TooManyStreams, match="streams"):
                await whole(log.stub, log_service_pb2.StreamEventsRequest())

        async def opens() -> bool:
            async with subscriber(log.stub, log_service_pb2.StreamEventsRequest()) as again:
                return again.received.heartbeats == 1

        await eventually(opens)


async def test_stopping_ends_streams_so_that_clients_resume(redis: Redis, redis_url: str, storage: FakeStorage) -> None:
    async with (
        log_process(redis_url, storage.address) as log,
        subscriber(log.stub, log_service_pb2.StreamEventsRequest()) as reader,
    ):
        started = time.monotonic()
        await log.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(Unavailable, match="Resume"):
            await reader.done


async def test_no_gap_and_no_duplicate_while_subscribers_come_drop_and_resume(
    redis: Redis, redis_url: str, storage: FakeStorage
) -> None:
    """The window holds far less than what is published, so that subscribers read from both sides of where they meet."""
    chance = random.Random(7)
    tasks = [new_id() for _ in range(4)]
    for task_id in tasks:
        storage.set_task(task_id, "running")
    sent: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    published = asyncio.Event()

    async def publisher() -> None:
        for number in range(150):
            task_id = chance.choice(tasks)
            sent[task_id] += await publish(redis, *(event(task_id, f"{number}.{i}") for i in range(10)))
            await asyncio.sleep(chance.random() * 0.02)
        for task_id in tasks:
            storage.set_task(task_id, "completed")
            last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
            sent[task_id] += await publish(redis, last)
            # Who has had its last event, and asks for what follows, learns of the end by the row alone.
            storage.set_task(task_id, "completed", end_settled=True)
        published.set()

    async def client(stub: Any, task_id: str) -> list[str]:
        got = Received()
        while not got.end:
            call = stub.StreamEvents(of_task(task_id, after=got.ids[-1] if got.ids else None))
            left = chance.randint(1, 200)
            async for response in call:
                got.take(response)
                left -= 1
                if left == 0 and not got.end:
                    break
            await asyncio.sleep(chance.random() * 0.3)
        return got.ids

    async with log_process(redis_url, storage.address, window_events=100, event_batch=20) as log, asyncio.timeout(60):
        publishing = asyncio.create_task(publisher())
        async with asyncio.TaskGroup() as group:
            clients = [(t, group.create_task(client(log.stub, t))) for t in tasks for _ in range(5)]
        await publishing
        for task_id, done in clients:
            assert done.result() == sent[task_id]
        # The stream is trimmed to the window, and all of it is kept.
        await persisted(storage, 1504)
        await eventually(lambda: shorter(redis, 101), what="a trimmed stream")
        # From the start, with the window far smaller than the history.
        assert (await whole(log.stub, of_task(tasks[0]))).ids == sent[tasks[0]]


async def shorter(redis: Redis, length: int) -> bool:
    return int(await redis.xlen(EVENTS_STREAM)) < length


async def test_a_slow_reader_slows_nobody_and_gets_everything_kept(
    redis: Redis, redis_url: str, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    async with log_process(redis_url, storage.address, window_events=50) as log:
        slow = log.stub.StreamEvents(of_task(task_id))
        await anext(aiter(slow))
        async with subscriber(log.stub, of_task(task_id)) as quick:
            sent: list[str] = []
            for _ in range(40):
                sent += await publish(redis, *(event(task_id, "x" * 2000) for _ in range(50)))
            await received(quick.received, 2000)
            assert quick.received.ids == sent
        await persisted(storage, 2000)
        await eventually(lambda: shorter(redis, 51), what="a trimmed stream")
        storage.set_task(task_id, "completed", end_settled=True)
        got = Received()
        async with asyncio.timeout(20):
            async for response in slow:
                got.take(response)
        assert (got.ids, got.end) == (sent, "completed")


async def test_many_subscribers_of_one_task_share_rows_and_wake_together(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    task_id = new_id()
    storage.set_task(task_id, "running")
    readers = [subscriber(log.stub, of_task(task_id)) for _ in range(50)]
    opened = [await reader.__aenter__() for reader in readers]
    before = storage.row_reads
    started = time.monotonic()
    await asyncio.sleep(2.2)
    assert storage.row_reads - before <= 2 + (time.monotonic() - started)
    storage.set_task(task_id, "completed")
    last = event(task_id, "completed", kind=EventKind.STATUS, context={"status": "completed"})
    sent = await publish(redis, last)
    before = storage.row_reads
    await asyncio.wait([reader.done for reader in opened], timeout=3)
    assert storage.row_reads - before <= 2
    for reader in opened:
        assert (reader.received.ids, reader.received.end) == (sent, "completed")


async def test_named_subscriptions_keep_filter_and_place(log: LogProcess, storage: FakeStorage) -> None:
    wanted = log_service_pb2.EventFilter(contains="x", context={"a": "b"})
    request = log_service_pb2.SaveSubscriptionRequest(name="me", filter=wanted, last_seen_stream_id="1764000000000-3")
    saved = (await log.stub.SaveSubscription(request)).subscription
    read = (await log.stub.GetSubscription(log_service_pb2.GetSubscriptionRequest(name="me"))).subscription
    assert read == saved
    assert (read.filter, read.last_seen_stream_id) == (wanted, "1764000000000-3")
    assert read.last_seen_timestamp.ToMilliseconds() == StreamId.parse("1764000000000-3").milliseconds


async def test_history_is_paged(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    sent = await publish(redis, *(event(new_id(), str(i)) for i in range(5)))
    await persisted(storage, 5)
    request = log_service_pb2.ListEventsRequest(page_size=3, descending=True)
    page = await log.stub.ListEvents(request)
    assert [e.stream_id for e in page.events] == sent[:1:-1]
    request.page_token = page.next_page_token
    page = await log.stub.ListEvents(request)
    assert [e.stream_id for e in page.events] == sent[1::-1]
    assert page.next_page_token == ""
    # However many events there are, a page takes so long at most.
    assert storage.scan_limits == [SCAN_LIMIT, SCAN_LIMIT]
