"""Dead letters are listed, shown and tried again, over gRPC and by `hearth-admin`; none is lost on the way."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.storage import FakeStorage, fake_storage
from hearth.log.v1 import log_service_pb2 as pb
from hearth_runtime.errors import DeadLetterNotFound, InvalidArgument, Unavailable
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, StreamId
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import DEAD_STREAM
from log_service.admin import DEFAULT_ADDRESS, log_address
from redis.asyncio import Redis
from servers.log_process import LogProcess, event, log_process
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


async def test_two_at_once_and_an_outage_lose_none(log: LogProcess, redis: Redis, storage: FakeStorage) -> None:
    places = await refuse(redis, storage, *(f"bad {n}" for n in range(20)))
    storage.refused = "\0"
    await storage.stop()
    with pytest.raises(Unavailable, match="storage"):
        await requeue(log)
    assert len(await listed(log)) == 20
    await storage.start()
    counts = [(await done).requeued_count for done in asyncio.as_completed([requeue(log), requeue(log)])]
    assert sum(counts) >= 20
    assert set(storage.events) == {StreamId.parse(place) for place in places}
    assert await listed(log) == []


async def test_an_absent_redis_is_named(own_redis_server: RedisServer, storage: FakeStorage) -> None:
    own_redis_server.start()
    async with log_process(own_redis_server.url, storage.address) as log:
        own_redis_server.stop()
        for call in (lambda: listed(log), lambda: requeue(log)):
            with pytest.raises(Unavailable, match="Redis does not answer"):
                await call()


type Admin = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
def admin(log: LogProcess) -> Admin:
    """Runs `hearth-admin dead …`."""

    async def run(*arguments: str, address: str = log.address) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "log_service.admin", "dead", *arguments],
            env=os.environ | {"HEARTH_LOG_ADDRESS": address, "HEARTH_RPC_TIMEOUT_SECONDS": "5"},
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
    away = await admin("list", address="unix:/nowhere/log.sock")
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)
    assert "log service does not answer" in away.stderr
    helped = await admin("requeue", "--help")
    assert helped.returncode == 0
    assert "--all" in helped.stdout


def test_where_it_looks_for_the_service(tmp_path: Path) -> None:
    assert log_address("dns:///log:1", tmp_path) == "dns:///log:1"
    assert log_address(None, tmp_path) == DEFAULT_ADDRESS
    elsewhere = tmp_path / "short"
    elsewhere.mkdir()
    (elsewhere / "log.sock").touch()
    (tmp_path / "run").symlink_to(elsewhere)
    assert log_address("", tmp_path) == f"unix:{elsewhere}/log.sock"
