"""Dead letters are listed, shown and tried again, over gRPC and by `hearth-admin`; none is lost on the way."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from fakes.storage import FakeStorage, fake_storage
from hearth.log.v1 import log_service_pb2 as pb
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import DeadLetterNotFound, InvalidArgument, Unavailable
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, EventKind, StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import DEAD_STREAM
from hearth_runtime.settings import RuntimeSettings
from log_service.admin import DEFAULT_ADDRESSES, address_of
from log_service.entries import entries_of
from log_service.persistence import Persistence
from log_service.storage import StoredEvents
from log_service.watermark import WRITERS_GROUP
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from servers.log_process import LogProcess, Subscriber, event, log_process, of_task, publish, subscriber
from servers.redis_server import RedisServer
from system.waiting import eventually


@pytest.fixture
async def storage() -> AsyncIterator[FakeStorage]:
    async with fake_storage() as storage:
        yield storage


@pytest.fixture
async def log(redis: Redis, redis_url: str, storage: FakeStorage) -> AsyncIterator[LogProcess]:
    async with log_process(redis_url, storage.address) as log:
        yield log


async def dead(redis: Redis, count: int) -> None:
    async def probe() -> bool:
        return bool(await redis.xlen(DEAD_STREAM) == count)

    await eventually(probe, what=f"{count} dead letters")


async def refuse(redis: Redis, storage: FakeStorage, *messages: str) -> list[str]:
    """Has events refused, and gives their places."""
    storage.refused = "bad"
    for message in messages:
        await redis.xadd(EVENTS_STREAM, {EVENT_FIELD: event(new_id(), message).encode()})
    await dead(redis, len(messages))
    entries: Any = await redis.xrange(DEAD_STREAM)
    return [fields[b"id"].decode() for _, fields in entries]


async def listed(log: LogProcess, *, size: int = 100) -> list[Any]:
    letters: list[Any] = []
    token = ""
    while True:
        answer = await log.stub.ListDeadLetters(pb.ListDeadLettersRequest(page_size=size, page_token=token))
        letters += answer.dead_letters
        token = answer.next_page_token
        if not token:
            return letters


async def requeue(log: LogProcess, *ids: str) -> Any:
    return await log.stub.RequeueDeadLetters(pb.RequeueDeadLettersRequest(ids=ids))


async def test_they_are_listed_in_pages_and_shown_whole(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    places = await refuse(redis, storage, *(f"bad {n}" for n in range(5)))
    letters = await listed(log, size=2)
    assert [letter.stream_id for letter in letters] == places
    assert all("refused it" in letter.reason and not letter.value for letter in letters)
    shown = (await log.stub.GetDeadLetter(pb.GetDeadLetterRequest(id=letters[2].id))).dead_letter
    assert (shown.stream_id, shown.reason) == (letters[2].stream_id, letters[2].reason)
    assert b"bad 2" in shown.value
    with pytest.raises(DeadLetterNotFound, match="hearth-admin dead list"):
        await log.stub.GetDeadLetter(pb.GetDeadLetterRequest(id="1-1"))
    with pytest.raises(InvalidArgument):
        await log.stub.GetDeadLetter(pb.GetDeadLetterRequest(id="nonsense"))
    with pytest.raises(InvalidArgument):
        await log.stub.ListDeadLetters(pb.ListDeadLettersRequest(page_size=1, page_token="nonsense"))


async def test_requeued_they_are_kept_at_their_places(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    places = await refuse(redis, storage, "bad 0", "bad 1", "bad 2")
    letters = await listed(log)
    storage.refused = "\0"
    answer = await requeue(log, letters[1].id)
    assert (answer.requeued_count, list(answer.refused)) == (1, [])
    assert set(storage.events) == {StreamId.parse(places[1])}
    answer = await requeue(log)
    assert answer.requeued_count == 2
    assert set(storage.events) == {StreamId.parse(place) for place in places}
    assert await listed(log) == []
    with pytest.raises(DeadLetterNotFound):
        await requeue(log, letters[1].id)
    assert (await requeue(log)).requeued_count == 0


async def test_an_id_that_is_none_is_told_before_anything_is_done(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    await refuse(redis, storage, "bad 0", "bad 1")
    first, second = [letter.id for letter in await listed(log)]
    storage.refused = "\0"
    with pytest.raises(DeadLetterNotFound, match="1-1"):
        await requeue(log, first, "1-1", second)
    assert storage.events == {}
    assert (await requeue(log, first, first, second)).requeued_count == 2
    with pytest.raises(InvalidArgument, match="500"):
        await requeue(log, *(f"{n}-0" for n in range(501)))


async def test_what_is_persisted_already_is_stored_once(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    (place,) = await refuse(redis, storage, "bad")
    storage.refused = "\0"
    # As after a requeue that ended between storing and deleting.
    letters: Any = await redis.xrange(DEAD_STREAM)
    await requeue(log)
    kept = storage.events[StreamId.parse(place)]
    await redis.xadd(DEAD_STREAM, letters[0][1])
    assert (await requeue(log)).requeued_count == 1
    assert storage.events == {StreamId.parse(place): kept}
    assert await redis.xlen(DEAD_STREAM) == 0


async def test_a_delta_is_done_with_since_none_is_kept(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    delta = event(new_id(), "half a w", kind=EventKind.DELTA)
    fields: Any = {"event": delta.encode(), "reason": "given up", "stream": EVENTS_STREAM, "id": "1-0"}
    await redis.xadd(DEAD_STREAM, fields)
    answer = await requeue(log)
    assert (answer.requeued_count, list(answer.refused)) == (1, [])
    assert storage.events == {}
    assert await listed(log) == []


async def test_what_is_refused_again_stays_with_its_new_reason(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    await refuse(redis, storage, "bad but mended", "bad for ever")
    await redis.xadd(EVENTS_STREAM, {EVENT_FIELD: b"\xff no event"})
    await dead(redis, 3)
    storage.refused = "for ever"
    answer = await requeue(log)
    assert answer.requeued_count == 1
    assert [letter.id for letter in answer.refused] == [letter.id for letter in await listed(log)]
    assert "refused it" in answer.refused[0].reason
    assert "cannot be decoded" in answer.refused[1].reason
    assert not any(letter.value for letter in answer.refused)
    kept = (await log.stub.GetDeadLetter(pb.GetDeadLetterRequest(id=answer.refused[1].id))).dead_letter
    assert kept.value == b"\xff no event"
    # All is as when it was buried, but for the reason.
    entries: Any = await redis.xrange(DEAD_STREAM)
    assert {fields[b"stream"] for _, fields in entries} == {EVENTS_STREAM.encode()}


async def test_two_at_once_keep_one_of_each_that_is_refused(
    log: LogProcess, redis: Redis, storage: FakeStorage
) -> None:
    places = await refuse(redis, storage, *(f"bad {n}" for n in range(30)))
    answers = await asyncio.gather(requeue(log), requeue(log), requeue(log))
    # Each once; in which order they come back is the three's affair.
    assert sorted(letter.stream_id for letter in await listed(log, size=7)) == sorted(places)
    assert {letter.stream_id for answer in answers for letter in answer.refused} == set(places)
    storage.refused = "\0"
    ids = [letter.id for letter in await listed(log)]
    mended = await asyncio.gather(requeue(log, *ids), requeue(log, *ids))
    assert sum(answer.requeued_count for answer in mended) == 30


async def test_too_many_push_out_the_oldest_and_that_is_counted(redis: Redis, storage: FakeStorage) -> None:
    storage.refused = "bad"
    await redis.xgroup_create(EVENTS_STREAM, WRITERS_GROUP, id="0", mkstream=True)
    sent = await publish(redis, *(event(new_id(), f"bad {n}") for n in range(5)))
    taken: Any = await redis.xreadgroup(WRITERS_GROUP, "me", {EVENTS_STREAM: ">"})
    before = REGISTRY.get_sample_value("hearth_dead_letters_lost_total") or 0
    async with open_channel("storage", storage.address, RuntimeSettings(rpc_timeout_seconds=2)) as channel:
        persistence = Persistence(redis, StoredEvents(channel), asyncio.Event(), traced=False, dead_length=3)
        await persistence.persist(entries_of(taken[0][1]), given_up={})
    kept: Any = await redis.xrange(DEAD_STREAM)
    assert [fields[b"id"].decode() for _, fields in kept] == sent[2:]
    assert (REGISTRY.get_sample_value("hearth_dead_letters_lost_total") or 0) - before == 2


async def test_how_many_there_are_is_a_metric(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    async def counted(count: int) -> None:
        async def probe() -> bool:
            return REGISTRY.get_sample_value("hearth_dead_letters_count") == count

        await eventually(probe, what=f"{count} in the metric")

    await refuse(redis, storage, "bad 0", "bad 1")
    await counted(2)
    storage.refused = "\0"
    await requeue(log)
    await counted(0)


async def test_requeued_they_are_replayed_at_their_places(
    redis: Redis,
    redis_url: str,
    new_database: Callable[[], Awaitable[str]],
    open_storage: Callable[..., AbstractAsyncContextManager[Any]],
) -> None:
    async with open_storage(await new_database()) as storage:
        task_id = await storage.new_task()
        # As an event that PostgreSQL refused for a while: it has a place between two that were kept.
        missing = event(task_id, "b", context={"n": 1})
        async with log_process(redis_url, storage.settings.listen_address, window_events=10) as log:
            first, place, last = await publish(redis, event(task_id, "a"), missing, event(task_id, "c"))

            async def all_are_kept() -> bool:
                return len(await storage.sql("SELECT FROM task_logs")) == 3

            await eventually(all_are_kept)
            await storage.sql("DELETE FROM task_logs WHERE stream_id = $1", place)
            fields: Any = {"event": missing.encode(), "reason": "refused", "stream": EVENTS_STREAM, "id": place}
            await redis.xadd(DEAD_STREAM, fields)
            await publish(redis, *(event(new_id(), "x") for _ in range(30)))

            async def left_the_window() -> bool:
                return await redis.xlen(EVENTS_STREAM) <= 10

            await eventually(left_the_window)
            async with subscriber(log.stub, of_task(task_id, after="0-0")) as passed:
                await eventually(lambda: has(passed, [first, last]))
                assert (await requeue(log)).requeued_count == 1
                assert (await requeue(log)).requeued_count == 0
                async with subscriber(log.stub, of_task(task_id, after="0-0")) as later:
                    await eventually(lambda: has(later, [first, place, last]))
                # An open stream that has passed the place does not go back.
                (new,) = await publish(redis, event(task_id, "d"))
                await eventually(lambda: has(passed, [first, last, new]))
            answer = await log.stub.ListEvents(
                pb.ListEventsRequest(page_size=10, filter=pb.EventFilter(task_ids=[task_id]))
            )
            assert [e.message for e in answer.events][:3] == ["a", "b", "c"]


async def has(reader: Subscriber, ids: list[str]) -> bool:
    return reader.received.ids == ids


async def test_two_at_once_and_an_outage_lose_none(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    places = await refuse(redis, storage, *(f"bad {n}" for n in range(20)))
    storage.refused = "\0"
    await storage.stop()
    with pytest.raises(Unavailable, match="storage"):
        await requeue(log)
    assert len(await listed(log)) == 20
    await storage.start()
    answers = await asyncio.gather(requeue(log), requeue(log))
    assert sum(answer.requeued_count for answer in answers) == 20
    assert set(storage.events) == {StreamId.parse(place) for place in places}
    assert await listed(log) == []


async def test_an_absent_redis_is_named(own_redis_server: RedisServer, storage: FakeStorage) -> None:
    own_redis_server.start()
    async with log_process(own_redis_server.url, storage.address) as log:
        own_redis_server.stop()
        for call in (lambda: listed(log), lambda: requeue(log)):
            with pytest.raises(Unavailable, match="Redis does not answer"):
                await call()


async def test_a_redis_that_refuses_is_not_called_away(log: LogProcess, redis: Redis) -> None:
    await redis.set(DEAD_STREAM, "no stream")
    with pytest.raises(Unavailable, match="Look into its log"):
        await listed(log)


type Admin = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
def admin(log: LogProcess) -> Admin:
    """Runs `hearth-admin dead …`."""

    async def run(*arguments: str, address: str = log.address, **environment: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "log_service.admin", "dead", *arguments],
            env=os.environ | {"HEARTH_LOG_ADDRESS": address, "HEARTH_RPC_TIMEOUT_SECONDS": "5"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


async def test_the_command_line(admin: Admin, redis: Redis, storage: FakeStorage) -> None:
    assert (await admin("list")).stdout == "There are no dead letters.\n"
    places = await refuse(redis, storage, "bad \u00e9", "bad 1", "bad 2")
    lines = (await admin("list")).stdout.splitlines()
    assert [line.split()[1] for line in lines] == places
    limited = await admin("list", "--limit", "2", "--json")
    first, second = map(json.loads, limited.stdout.splitlines())
    assert (first["stream_id"], second["stream_id"]) == tuple(places[:2])
    assert "more than 2" in limited.stderr

    shown = await admin("show", first["id"])
    assert first["reason"] in shown.stdout
    whole = json.loads((await admin("show", first["id"], "--json")).stdout)
    assert whole["event"]["message"] == "bad \u00e9"

    assert (await admin("requeue", first["id"])).returncode == 1
    storage.refused = "bad 1"
    mended = await admin("requeue", "--all")
    assert (mended.returncode, mended.stdout.splitlines()[-1]) == (1, "2 persisted, 1 refused.")
    storage.refused = "\0"
    mended = await admin("requeue", "--all")
    assert (mended.returncode, mended.stdout) == (0, "1 persisted, 0 refused.\n")


async def test_the_command_line_says_what_is_wrong(admin: Admin) -> None:
    for arguments in (("requeue",), ("requeue", "1-1", "--all"), ("list", "--limit", "0"), ("burn",), ()):
        answer = await admin(*arguments)
        assert (answer.returncode, answer.stdout) == (2, ""), arguments
        assert answer.stderr
    unknown = await admin("show", "1-1")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "There is no dead letter 1-1" in unknown.stderr
    for command in (("list",), ("requeue", "--all")):
        away = await admin(*command, address="unix:/nowhere/log.sock", HEARTH_RPC_TIMEOUT_SECONDS="1")
        assert (away.returncode, away.stdout, away.stderr.count("\n")) == (1, "", 1)
        assert "log-service does not answer at unix:/nowhere/log.sock" in away.stderr
    helped = await admin("requeue", "--help")
    assert helped.returncode == 0
    assert "--all" in helped.stdout


async def test_no_letter_commands_the_terminal(admin: Admin, redis: Redis, storage: FakeStorage) -> None:
    fields: Any = {"event": b"", "reason": "\x1b[2J\nnot so \u00e9", "stream": EVENTS_STREAM, "id": "1-0"}
    await redis.xadd(DEAD_STREAM, fields)
    assert (await admin("list")).stdout.endswith("1-0  \\x1b[2J\\nnot so \u00e9\n")


async def test_a_reader_that_has_seen_enough_is_no_error(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    fields: Any = {"event": b"", "reason": "x" * 1000, "stream": EVENTS_STREAM, "id": "1-0"}
    for _ in range(300):
        await redis.xadd(DEAD_STREAM, fields)
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "log_service.admin", "dead", "list", "--limit", "300"),
        env=os.environ | {"HEARTH_LOG_ADDRESS": log.address},
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert await asyncio.to_thread(os.read, reader, 1)
    os.close(reader)
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


def test_what_to_do_without_a_home(tmp_path: Path) -> None:
    away = subprocess.run(
        [sys.executable, "-m", "log_service.admin", "dead", "list"],
        env={"HEARTH_HOME": str(tmp_path), "HEARTH_RPC_TIMEOUT_SECONDS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (1, "", 1)
    assert f"no socket in {tmp_path}/run" in away.stderr
    assert "HEARTH_LOG_ADDRESS" in away.stderr


def test_where_it_looks_for_the_service(tmp_path: Path) -> None:
    assert address_of("log", "dns:///log:1", tmp_path) == "dns:///log:1"
    assert address_of("log", None, tmp_path) == DEFAULT_ADDRESSES["log"]
    elsewhere = tmp_path / "short"
    elsewhere.mkdir()
    (elsewhere / "log.sock").touch()
    (tmp_path / "run").symlink_to(elsewhere)
    assert address_of("log", "", tmp_path) == f"unix:{elsewhere}/log.sock"
    # A short way to a home whose own path is too long for a socket.
    home = tmp_path / ("x" * 120)
    (home / "run").mkdir(parents=True)
    (home / "run" / "log.sock").touch()
    (tmp_path / "home").symlink_to(home)
    assert address_of("log", None, tmp_path / "home") == f"unix:{tmp_path}/home/run/log.sock"
