"""Events reach Redis in order, all of them, however long it was away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agent_service import publisher as publisher_module
from agent_service.publisher import EventPublisher, RunEvents
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event, EventKind, EventLevel
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import connect
from hearth_runtime.tasks import Task, TaskStatus
from redis.asyncio import Redis
from servers.redis_server import RedisServer
from system.waiting import eventually


@asynccontextmanager
async def publishing(redis: Redis, *, limit: int = 1000) -> AsyncIterator[EventPublisher]:
    publisher = EventPublisher(redis, limit=limit)
    running = asyncio.create_task(publisher.run())
    yield publisher
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def events_of(publisher: EventPublisher, task_id: str = "") -> RunEvents:
    return RunEvents(publisher, task_id=task_id or new_id(), agent_id=new_id(), attempt=1, traceparent="")


async def published(redis: Redis) -> list[Event]:
    entries: Any = await redis.xrange(EVENTS_STREAM)
    return [Event.decode(fields[EVENT_FIELD], stream_id=stream_id.decode()) for stream_id, fields in entries]


async def test_events_arrive_in_their_order(redis: Redis) -> None:
    async with publishing(redis) as publisher:
        events = events_of(publisher)
        for n in range(1200):
            await events.log(EventLevel.INFO, f"{n}")
        await events.flush()
        assert [e.message for e in await published(redis)] == [f"{n}" for n in range(1200)]


async def test_flush_means_that_redis_has_them(redis: Redis) -> None:
    async with publishing(redis) as publisher:
        events = events_of(publisher)
        for n in range(50):
            await events.delta(f"{n} ")
            await events.flush()
            assert (await published(redis))[-1].message == f"{n} "


async def test_deltas_of_many_tasks_gather_until_a_flush(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "GATHER_SECONDS_PER_TASK", 10.0)
    monkeypatch.setattr(publisher_module, "GATHER_CAP_SECONDS", 60.0)
    async with publishing(redis) as publisher:
        tasks = [events_of(publisher) for _ in range(3)]
        for text in ("one", "two", "three"):
            for events in tasks:
                await events.delta(text)
            if text == "one":
                await eventually(lambda: published(redis), what="the first")
            for _ in range(10):  # turns in which they could be sent
                await asyncio.sleep(0)
        assert [e.message for e in await published(redis)] == ["one"] * 3
        await asyncio.wait_for(publisher.flush(), 10)
        assert [e.message for e in await published(redis)] == ["one"] * 3 + ["twothree"] * 3


async def test_while_redis_is_away_deltas_merge_and_nothing_is_lost(own_redis_server: RedisServer) -> None:
    own_redis_server.start()
    async with connect(own_redis_server.url) as redis, publishing(redis) as publisher:
        one, two = events_of(publisher), events_of(publisher)
        await one.log(EventLevel.INFO, "before")
        await one.flush()
        own_redis_server.stop()
        for n in range(100):
            await one.delta(f"{n} ")
        await one.log(EventLevel.INFO, "between")
        await two.delta("other")
        await one.delta("last")
        own_redis_server.start()
        async with asyncio.timeout(20):
            await one.flush()
        seen = await published(redis)
        assert [(e.kind, e.message) for e in seen if e.kind is not EventKind.DELTA] == [
            (EventKind.LOG, "before"),
            (EventKind.LOG, "between"),
        ]
        assert "".join(e.message for e in seen if e.task_id == seen[0].task_id and e.kind is EventKind.DELTA) == (
            "".join(f"{n} " for n in range(100)) + "last"
        )
        assert sum(e.kind is EventKind.DELTA for e in seen) < 20


async def test_deltas_of_runs_that_go_on_side_by_side_merge_too(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as redis, publishing(redis, limit=10) as publisher:
        one, two = events_of(publisher), events_of(publisher)
        async with asyncio.timeout(5):
            for n in range(100):
                await one.delta(f"{n} ")
                await two.delta(f"{n} ")
            await one.log(EventLevel.INFO, "between")
            await one.delta("after")
        own_redis_server.start()
        async with asyncio.timeout(20):
            await two.flush()
        whole = "".join(f"{n} " for n in range(100))
        seen = await published(redis)
        first = [e.message for e in seen if e.task_id == seen[0].task_id]
        assert ("".join(first[: first.index("between")]), first[-1]) == (whole, "after")
        assert "".join(e.message for e in seen if e.task_id != seen[0].task_id) == whole
        assert len(seen) <= 10


async def test_a_full_buffer_makes_the_run_wait(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as redis, publishing(redis, limit=10) as publisher:
        events = events_of(publisher)
        for n in range(10):
            await events.log(EventLevel.INFO, f"{n}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await events.log(EventLevel.INFO, "too many")
        own_redis_server.start()
        async with asyncio.timeout(20):
            await events.log(EventLevel.INFO, "10")
            await events.flush()
        assert [e.message for e in await published(redis)] == [f"{n}" for n in range(11)]


class LosesAnswers(EventPublisher):
    """Redis takes every second batch, but the connection breaks before it says so."""

    calls = 0

    async def _send(self, batch: Any) -> None:
        await super()._send(batch)
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError("broken off")


async def test_an_event_whose_answer_was_lost_is_not_sent_twice(redis: Redis) -> None:
    publisher = LosesAnswers(redis, limit=1000)
    running = asyncio.create_task(publisher.run())
    events = events_of(publisher)
    for n in range(6):
        await events.log(EventLevel.INFO, f"{n}")
        if n % 2:
            async with asyncio.timeout(10):
                await events.flush()
    assert [e.message for e in await published(redis)] == [f"{n}" for n in range(6)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_comes_between_a_lost_answer_and_its_repetition_is_not_lost(redis: Redis) -> None:
    publisher = LosesAnswers(redis, limit=1000)
    running = asyncio.create_task(publisher.run())
    events = events_of(publisher)
    for n in range(6):
        await events.log(EventLevel.INFO, f"{n}")
        await eventually(lambda n=n: calls_reached(publisher, n + 1))  # type: ignore[misc]
    async with asyncio.timeout(20):
        await events.flush()
    assert [e.message for e in await published(redis)] == [f"{n}" for n in range(6)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def calls_reached(publisher: LosesAnswers, count: int) -> bool:
    return publisher.calls >= count


async def test_no_event_of_an_attempt_follows_one_of_the_next(redis: Redis) -> None:
    async with publishing(redis) as publisher:
        task_id, agent_id = new_id(), new_id()
        first, second = (
            RunEvents(publisher, task_id=task_id, agent_id=agent_id, attempt=attempt, traceparent="")
            for attempt in (1, 2)
        )
        other = events_of(publisher)
        await first.log(EventLevel.INFO, "first")
        await second.log(EventLevel.INFO, "second")
        await first.log(EventLevel.INFO, "late")
        await other.log(EventLevel.INFO, "another task")
        await second.log(EventLevel.INFO, "goes on")
        await second.flush()
        assert [e.message for e in await published(redis)] == ["first", "second", "another task", "goes on"]


async def test_what_a_sub_task_tells_is_told_once_more_at_the_top_of_its_tree(redis: Redis) -> None:
    async with publishing(redis) as publisher:
        task_id, agent_id, root_id = new_id(), new_id(), new_id()
        first, second = (
            RunEvents(
                publisher, task_id=task_id, agent_id=agent_id, attempt=attempt, traceparent="", root_task_id=root_id
            )
            for attempt in (1, 2)
        )
        await first.status("running", "running")
        await first.delta("Re")
        await first.log(EventLevel.INFO, "for its own readers")
        await first.log(EventLevel.WARNING, "for all")
        await second.step("act", "started")
        await first.step("act", "late")
        await second.flush()
        told = [(e.task_id == root_id, e.kind.value, e.message) for e in await published(redis)]
        assert told == [
            (False, "status", "running"),
            (True, "sub_task", "running"),
            (False, "delta", "Re"),
            (False, "log", "for its own readers"),
            (False, "log", "for all"),
            (True, "sub_task", "for all"),
            (False, "step", "act started"),
            (True, "sub_task", "act started"),
        ]
        rolled_up = [e for e in await published(redis) if e.task_id == root_id]
        assert rolled_up[0].context == {
            "origin": {"task_id": task_id, "agent_id": agent_id, "attempt": 1},
            "kind": "status",
            "context": {"status": "running"},
        }
        assert {e.attempt for e in rolled_up} == {0}
        assert len({e.id for e in await published(redis)}) == len(told)


async def test_the_top_of_a_tree_tells_itself_once(redis: Redis) -> None:
    async with publishing(redis) as publisher:
        task_id = new_id()
        top = RunEvents(publisher, task_id=task_id, agent_id=new_id(), attempt=1, traceparent="", root_task_id=task_id)
        await top.status("running", "running")
        await top.flush()
        assert len(await published(redis)) == 1


async def test_what_a_sub_task_tells_after_the_end_of_its_top_is_its_own(redis: Redis) -> None:
    top_id, child_id, agent_id = new_id(), new_id(), new_id()
    ended_at = datetime(2026, 1, 1, tzinfo=UTC)
    later = ended_at + timedelta(seconds=1)

    def top(attempt: int) -> RunEvents:
        return RunEvents(publisher, task_id=top_id, agent_id=agent_id, attempt=attempt, traceparent="")

    async with publishing(redis) as publisher:
        child = RunEvents(
            publisher, task_id=child_id, agent_id=agent_id, attempt=1, traceparent="", root_task_id=top_id
        )
        # A wait is no end.
        await top(1).publish(EventKind.STATUS, message="waits", context={"status": "waiting"}, ended=ended_at)
        await child.status("running", "before")
        await top(2).publish(EventKind.STATUS, message="over", context={"status": "completed"}, ended=later)
        await child.status("cancelled", "after")
        await top(3).status("running", "started again")
        await child.status("running", "after the new start")
        await child.flush()
        told = [e.message for e in await published(redis) if e.kind is EventKind.SUB_TASK]
        own = [e.message for e in await published(redis) if e.task_id == child_id]
    assert told == ["before", "after the new start"]
    assert own == ["before", "after", "after the new start"]


async def test_an_end_is_told_once_whoever_tells_it(redis: Redis) -> None:
    ended_at = datetime(2026, 1, 1, tzinfo=UTC)
    task = Task(
        id=new_id(), agent_id=new_id(), session_id=None, status=TaskStatus.FAILED, input={}, output=None,
        error_code="e", error_message="It broke.", retry_count=0, attempt=1, created_at=ended_at, started_at=ended_at,
        completed_at=ended_at, next_attempt_at=None, cancel_requested=False,
    )  # fmt: skip
    async with publishing(redis) as worker, publishing(redis) as dispatcher:
        for publisher in (worker, dispatcher, worker):
            events = events_of(publisher, task.id)
            await events.ended(task)
            await events.flush()
        (end,) = await published(redis)
        assert (end.message, end.level, end.timestamp) == ("It broke.", EventLevel.ERROR, ended_at)
        assert end.context == {"status": "failed", "code": "e"}
        # It was started again by hand, and ends once more.
        await events_of(worker, task.id).ended(replace(task, completed_at=ended_at + timedelta(seconds=9)))
        await worker.flush()
        assert len(await published(redis)) == 2
