"""Events and subscriptions over gRPC and on real PostgreSQL."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import event_store_pb2
from hearth_runtime.codec import timestamp
from hearth_runtime.errors import InvalidArgument, SubscriptionNotFound
from hearth_runtime.identifiers import new_id

Filter = log_service_pb2.EventFilter
START = datetime(2026, 3, 1, tzinfo=UTC)


def event(stream_id: str, **fields: Any) -> event_pb2.Event:
    milliseconds = int(stream_id.partition("-")[0])
    return event_pb2.Event(
        **{
            "stream_id": stream_id,
            "id": new_id(),
            "task_id": new_id(),
            "agent_id": new_id(),
            "attempt": 1,
            "kind": event_pb2.Event.KIND_LOG,
            "level": event_pb2.Event.LEVEL_INFO,
            "message": "hello",
            "context": '{"step":"plan"}',
            "timestamp": timestamp(START + timedelta(milliseconds=milliseconds % 1_000_000)),
            "traceparent": "00-ab-cd-01",
            **fields,
        }
    )


async def append(storage: Any, *events: event_pb2.Event) -> int:
    answer = await storage.events.AppendEvents(event_store_pb2.AppendEventsRequest(events=events))
    return int(answer.stored_count)


async def pages(storage: Any, **fields: Any) -> list[event_pb2.Event]:
    """Every page, one after the other."""
    request = event_store_pb2.ListEventsRequest(**{"page_size": 100, **fields})
    seen: list[event_pb2.Event] = []
    while True:
        answer = await storage.events.ListEvents(request)
        seen += answer.events
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            return seen


def ids(events: list[event_pb2.Event]) -> list[str]:
    return [item.stream_id for item in events]


@pytest.fixture(autouse=True)
async def _empty(storage: Any) -> None:
    await storage.sql("TRUNCATE task_logs")


async def test_an_event_comes_back_as_it_was(storage: Any) -> None:
    kept = event("1764000000000-3")
    assert await append(storage, kept) == 1
    assert await pages(storage) == [kept]


async def test_what_is_known_is_passed_over(storage: Any) -> None:
    first, second, third = (event(f"10-{n}") for n in range(3))
    assert await append(storage, first, second, first) == 2
    assert await append(storage, second, third) == 1
    assert await append(storage) == 0
    assert await pages(storage) == [first, second, third]


async def test_the_same_batch_from_many_sides_is_stored_once(storage: Any) -> None:
    batch = [event(f"{ms}-{n}") for ms in range(50) for n in range(4)]
    shuffled = [random.sample(batch, len(batch)) for _ in range(8)]
    stored = await asyncio.gather(*(append(storage, *part) for part in shuffled))
    assert sum(stored) == len(batch)
    assert await pages(storage) == batch


async def test_callers_with_the_same_events_never_wait_in_a_circle(storage: Any) -> None:
    insert = (
        "INSERT INTO task_logs SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 'log', 'info', '',"
        " '{}', now(), '', $1 || '-0', $1::bigint, 0"
    )
    other = await asyncpg.connect(storage.settings.database_url)
    try:
        async with other.transaction():
            await other.execute(insert, "1")
            appending = asyncio.ensure_future(append(storage, event("2-0"), event("1-0")))
            await storage.until_blocked()
            # It waits at the first of its events, and so holds none that this transaction may need.
            await other.execute(insert, "2")
        assert await appending == 0
    finally:
        await other.close()


async def test_what_cannot_be_stored_is_replaced(storage: Any) -> None:
    await append(storage, event("1-0", message="a\0b", context='{"k\\u0000":["\\u0000",{"x":"\\\\u0000"}]}'))
    (kept,) = await pages(storage)
    assert kept.message == "a\N{REPLACEMENT CHARACTER}b"
    assert kept.context == '{"k\N{REPLACEMENT CHARACTER}":["\N{REPLACEMENT CHARACTER}",{"x":"\\\\u0000"}]}'


async def test_what_is_no_event_names_the_field_and_stores_nothing(storage: Any) -> None:
    wrongs: dict[str, dict[str, Any]] = {
        "kind": {"kind": event_pb2.Event.KIND_DELTA},
        "stream_id": {"stream_id": "1-x"},
        "task_id": {"task_id": "no-uuid"},
        "context": {"context": "[1]"},
    }
    for field, wrong in wrongs.items():
        with pytest.raises(InvalidArgument) as caught:
            await append(storage, event("1-0"), event(**{"stream_id": "2-0", **wrong}))
        assert caught.value.fields[0].field == f"events[1].{field}"
    for unreadable in (event("2-0", context="{"), event("2-0", kind=0), event("2-0", level=99)):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            await append(storage, unreadable)
    assert await pages(storage) == []


@pytest.mark.parametrize("page_size", [1, 7, 100])
async def test_pages_go_in_the_order_of_stream_ids_both_ways(storage: Any, page_size: int) -> None:
    # As text, "9-0" would come after "10-0", and "10-10" before "10-2".
    order = ["9-0", "9-11", "10-0", "10-2", "10-10", "100-0", "1000-1"]
    batch = [event(stream_id) for stream_id in order]
    await append(storage, *random.sample(batch, len(batch)))
    assert ids(await pages(storage, page_size=page_size)) == order
    assert ids(await pages(storage, page_size=page_size, descending=True)) == order[::-1]
    bounds = {"after_stream_id": "9-11", "before_stream_id": "100-0"}
    assert ids(await pages(storage, page_size=page_size, **bounds)) == ["10-0", "10-2", "10-10"]
    assert ids(await pages(storage, page_size=page_size, descending=True, **bounds)) == ["10-10", "10-2", "10-0"]


async def test_pages_are_complete_while_events_are_added(storage: Any) -> None:
    task_id = new_id()
    before = [event(f"{n}-0", task_id=task_id) for n in range(1000, 1040)]
    await append(storage, *before)
    for descending in (False, True):
        request = event_store_pb2.ListEventsRequest(
            page_size=3, filter=Filter(task_ids=[task_id]), descending=descending
        )
        seen: list[str] = []
        added = 2000
        while True:
            answer = await storage.events.ListEvents(request)
            seen += ids(list(answer.events))
            if added < 2020:
                await append(storage, event(f"{added}-{int(descending)}", task_id=task_id), event(f"{added}-9"))
                added += 1
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                break
        assert len(seen) == len(set(seen))
        assert set(seen) >= set(ids(before))


async def test_every_filter(storage: Any) -> None:
    task_a, task_b, agent_a, agent_b = (new_id() for _ in range(4))
    kinds, levels = event_pb2.Event.Kind, event_pb2.Event.Level
    await append(
        storage,
        event("1-0", task_id=task_a, agent_id=agent_a, message="One 100% sure", context='{"n":1,"ok":true}'),
        event("2-0", task_id=task_a, agent_id=agent_b, level=levels.LEVEL_WARNING, context='{"n":2}'),
        event("3-0", task_id=task_b, agent_id=agent_a, level=levels.LEVEL_ERROR, kind=kinds.KIND_STATUS),
        event("4-0", task_id=task_b, agent_id=agent_b, kind=kinds.KIND_USAGE, context='{"n":1,"o":{"p":1}}'),
    )
    moment = timestamp(START + timedelta(milliseconds=2))
    for where, found in (
        (Filter(), "1234"),
        (Filter(task_ids=[task_a]), "12"),
        (Filter(task_ids=[task_a, task_b]), "1234"),
        (Filter(task_ids=[new_id()]), ""),
        (Filter(agent_ids=[agent_a]), "13"),
        (Filter(agent_ids=[agent_a, agent_b], task_ids=[task_b]), "34"),
        (Filter(levels=[levels.LEVEL_ERROR]), "3"),
        (Filter(levels=[levels.LEVEL_WARNING, levels.LEVEL_ERROR]), "23"),
        (Filter(kinds=[kinds.KIND_STATUS, kinds.KIND_USAGE]), "34"),
        (Filter(contains="0% SURE"), "1"),
        (Filter(contains="one%sure"), ""),
        (Filter(since=moment), "234"),
        (Filter(until=moment), "1"),
        (Filter(context={"n": "1"}), "14"),
        (Filter(context={"n": "1", "ok": "true"}), "1"),
        (Filter(context={"missing": "1"}), ""),
    ):
        for descending in (False, True):
            seen = ids(await pages(storage, filter=where, descending=descending))
            assert sorted(seen) == [f"{n}-0" for n in found], where


async def test_what_warns_or_failed_is_found_in_its_order_by_an_index(storage: Any) -> None:
    warning, error = event_pb2.Event.LEVEL_WARNING, event_pb2.Event.LEVEL_ERROR
    troubles = {n: error if n % 200 == 0 else warning for n in range(0, 2000, 100)}
    await append(storage, *(event(f"{n}-0", level=troubles.get(n, event_pb2.Event.LEVEL_INFO)) for n in range(2000)))
    await storage.sql("ANALYZE task_logs")
    for levels in (["error"], ["warning", "error"]):
        condition = f"level = '{levels[0]}'" if len(levels) == 1 else f"level = ANY ('{{{','.join(levels)}}}')"
        query = f"SELECT * FROM task_logs WHERE {condition} ORDER BY stream_ms, stream_seq LIMIT 5"
        plan = "\n".join(row[0] for row in await storage.sql(f"EXPLAIN {query}"))
        assert "Index Scan using task_logs_troubles" in plan, plan
        assert "Sort" not in plan, plan


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("page_size", [1, 2, 100])
async def test_a_page_ends_where_so_many_events_were_looked_at(
    storage: Any, page_size: int, *, descending: bool
) -> None:
    task_id = new_id()
    wanted = [7, 8, 9, 20, 39]
    await append(
        storage,
        *(event(f"{n}-0", task_id=task_id, message="lost" if n in wanted else "", context="{}") for n in range(40)),
        *(event(f"{n}-1", message="lost") for n in range(40)),
    )
    request = event_store_pb2.ListEventsRequest(
        page_size=page_size, filter=Filter(task_ids=[task_id], contains="lost"), descending=descending, scan_limit=10
    )
    seen: list[list[str]] = []
    while not seen or request.page_token:
        answer = await storage.events.ListEvents(request)
        seen.append(ids(answer.events))
        request.page_token = answer.next_page_token
    order = [f"{n}-0" for n in wanted]
    assert [stream_id for page in seen for stream_id in page] == (order[::-1] if descending else order)
    if page_size == 100 and not descending:
        # Of ten events each, and one that finds no more.
        assert [len(page) for page in seen] == [3, 0, 1, 1, 0]
    # What indexes find is not compared.
    assert len(await pages(storage, filter=Filter(task_ids=[task_id]), scan_limit=30, page_size=25)) == 40


async def test_what_is_no_filter_or_place_names_the_field(storage: Any) -> None:
    unknown: Any = 77
    wrongs: dict[str, dict[str, Any]] = {
        "task_ids": {"filter": Filter(task_ids=["x"])},
        "agent_ids": {"filter": Filter(agent_ids=["x"])},
        "levels": {"filter": Filter(levels=[event_pb2.Event.LEVEL_UNSPECIFIED])},
        "kinds": {"filter": Filter(kinds=[unknown])},
        "after_stream_id": {"after_stream_id": "x"},
        "before_stream_id": {"before_stream_id": "1-"},
        "page_size": {"page_size": 5001},
        "scan_limit": {"scan_limit": -1},
        "cursor": {"page_token": "x"},
    }
    for field, wrong in wrongs.items():
        with pytest.raises(InvalidArgument) as caught:
            await pages(storage, **wrong)
        assert [violation.field for violation in caught.value.fields] == [field]


async def test_a_replay_of_large_events_stays_under_the_bound_of_a_message(storage: Any) -> None:
    task_id = new_id()
    for n in range(5):
        await append(storage, *(event(f"{n}-{k}", task_id=task_id, message="x" * 1_000_000) for k in range(9)))
    assert len(await pages(storage, page_size=5000, filter=Filter(task_ids=[task_id]))) == 45


async def test_a_subscription_is_made_changed_and_moves_only_forward(storage: Any) -> None:
    name = f"sub-{new_id()}"
    with pytest.raises(SubscriptionNotFound, match=name):
        await storage.events.GetSubscription(event_store_pb2.GetSubscriptionRequest(name=name))

    async def save(**fields: Any) -> Any:
        request = event_store_pb2.SaveSubscriptionRequest(name=name, **fields)
        saved = (await storage.events.SaveSubscription(request)).subscription
        got = await storage.events.GetSubscription(event_store_pb2.GetSubscriptionRequest(name=name))
        assert got.subscription == saved
        return saved

    where = Filter(
        task_ids=[new_id()],
        levels=[event_pb2.Event.LEVEL_ERROR],
        kinds=[event_pb2.Event.KIND_LOG],
        contains="x",
        since=timestamp(START),
        context={"a": "b"},
    )
    first = await save(filter=where)
    assert (first.filter, first.last_seen_stream_id) == (where, "")
    assert not first.HasField("last_seen_timestamp")
    later = timestamp(START + timedelta(seconds=1))
    moved = await save(last_seen_stream_id="10-2", last_seen_timestamp=later)
    assert (moved.id, moved.filter) == (first.id, where)
    assert (moved.last_seen_stream_id, moved.last_seen_timestamp) == ("10-2", later)
    back = await save(last_seen_stream_id="9-99", last_seen_timestamp=timestamp(START))
    assert back == moved
    changed = await save(filter=Filter())
    assert (changed.filter, changed.last_seen_stream_id) == (Filter(), "10-2")
    assert (await save(last_seen_stream_id="10-10")).last_seen_stream_id == "10-10"
    with pytest.raises(InvalidArgument, match="name"):
        await storage.events.SaveSubscription(event_store_pb2.SaveSubscriptionRequest())
