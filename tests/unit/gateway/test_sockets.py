"""WebSockets: events as frames, subscriptions that change and are resumed by name."""

import asyncio
import contextlib
import json
import socket
from typing import Any

import pytest
from hearth.log.v1 import event_pb2
from hearth_runtime.errors import TooManyStreams
from hearth_runtime.identifiers import new_id
from servers.gateway import World, open_world, until
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed


async def receive(client: ClientConnection) -> Any:
    """The next frame that is no heartbeat."""
    while True:
        async with asyncio.timeout(10):
            frame = json.loads(await client.recv())
        if frame.get("kind") != "heartbeat":
            return frame


async def closed(client: ClientConnection) -> tuple[int, str]:
    """How the server closes, nothing else being sent before."""
    with pytest.raises(ConnectionClosed) as caught:
        await receive(client)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def subscribe(client: ClientConnection, filters: Any = None, **fields: Any) -> Any:
    """Sends a subscription and gives the answer."""
    wanted = fields if filters is None else {"subscribe": filters, **fields}
    await client.send(json.dumps(wanted))
    return await receive(client)


async def test_a_tasks_socket_has_every_event_and_closes_after_the_end(world: World) -> None:
    task = await world.state.add_task()
    first = await world.state.add_event(task, "one", context='{"a":[1]}')
    async with world.socket(f"/tasks/{task.id}") as client:
        frame = await receive(client)
        assert frame == {
            "id": first.stream_id,
            "task_id": task.id,
            "agent_id": task.agent_id,
            "attempt": 1,
            "kind": "log",
            "level": "info",
            "message": "one",
            "context": {"a": [1]},
            "timestamp": frame["timestamp"],
            "trace_id": None,
        }
        await client.send("what a client says here is passed over")
        delta = await world.state.add_event(task, "Red", kind=event_pb2.Event.KIND_DELTA)
        assert (await receive(client))["id"] == delta.stream_id
        await world.state.end_task(task)
        assert await receive(client) == {"kind": "end", "task_id": task.id, "status": "completed"}
        assert (await closed(client))[0] == 1000


async def test_a_tasks_socket_resumes(world: World) -> None:
    task = await world.state.add_task()
    events = [await world.state.add_event(task, str(n)) for n in range(3)]
    async with world.socket(f"/tasks/{task.id}?after={events[1].stream_id}") as client:
        assert (await receive(client))["id"] == events[2].stream_id


@pytest.mark.parametrize(
    ("path", "code", "problem"),
    [
        ("/tasks/01932c07-0000-7000-8000-000000000001", 4404, "task_not_found"),
        ("/tasks/nobody", 4422, "invalid_request"),
        ("/tasks/01932c07-0000-7000-8000-000000000001?after=7", 4422, "invalid_request"),
    ],
)
async def test_what_is_wrong_is_told_before_the_close(world: World, path: str, code: int, problem: str) -> None:
    async with world.socket(path) as client:
        frame = await receive(client)
        assert frame["kind"] == "error"
        assert frame["error"]["code"] == problem
        assert frame["error"]["instance"] == f"/api/v1/ws{path.partition('?')[0]}"
        got, reason = await closed(client)
        assert got == code
        assert reason == frame["error"]["detail"][:123]


async def test_a_restart_of_the_log_service_goes_unnoticed() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        async with world.socket(f"/tasks/{task.id}") as client, world.socket("/logs") as other:
            await subscribe(other, {})
            before = await world.state.add_event(task, "before")
            assert [(await receive(c))["id"] for c in (client, other)] == [before.stream_id] * 2
            await world.services.log.stop()
            away = await world.state.add_event(task, "away")
            await world.services.log.start()
            after = await world.state.add_event(task, "after")
            for each in (client, other):
                assert [(await receive(each))["id"] for _ in range(2)] == [away.stream_id, after.stream_id]


async def test_a_subscription_without_an_event_misses_none_while_the_log_service_restarts() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        async with world.socket("/logs") as client:
            await subscribe(client, {"task_ids": [task.id]})
            await world.services.log.stop()
            away = await world.state.add_event(task, "away")
            await world.services.log.start()
            assert (await receive(client))["id"] == away.stream_id


async def test_a_client_that_leaves_ends_the_stream_behind_it(world: World) -> None:
    task = await world.state.add_task()
    before = world.state.open_streams
    async with world.socket(f"/tasks/{task.id}"), world.socket("/logs") as client:
        await subscribe(client, {})
        await until(lambda: world.state.open_streams == before + 2)
    await until(lambda: world.state.open_streams == before)


async def test_a_subscription_begins_with_what_happens_next(world: World) -> None:
    task = await world.state.add_task()
    await world.state.add_event(task, "before")
    async with world.socket("/logs") as client:
        answer = await subscribe(client, {})
        assert answer["subscribed"] == {}
        event = await world.state.add_event(task, "after")
        assert (await receive(client))["id"] == event.stream_id


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({"levels": ["error", "warning"]}, ["bad"]),
        ({"kinds": ["delta"]}, ["piece"]),
        ({"contains": "CAL"}, ["call"]),
        ({"context": {"tool": "search"}}, ["call"]),
        ({"context": {"tool": "search"}, "kinds": ["log"]}, []),
    ],
)
async def test_filters_select(world: World, filters: dict[str, Any], matches: list[str]) -> None:
    task = await world.state.add_task()
    kind = event_pb2.Event
    async with world.socket("/logs") as client:
        wanted = {"task_ids": [task.id], **filters}
        assert (await subscribe(client, wanted))["subscribed"] == wanted
        await world.state.add_event(task, "call", kind=kind.KIND_TOOL_CALL, context='{"tool":"search"}')
        await world.state.add_event(task, "piece", kind=kind.KIND_DELTA)
        await world.state.add_event(task, "bad", level=kind.LEVEL_ERROR)
        got = [(await receive(client))["message"] for _ in matches]
        await client.send(json.dumps({"subscribe": {"task_ids": [task.id], "contains": "last"}}))
        await world.state.add_event(task, "last", kind=kind.KIND_USAGE)
        while (frame := await receive(client)).get("message") != "last":
            if "subscribed" not in frame:
                got.append(frame["message"])
        assert got == matches


async def test_a_change_goes_on_from_the_same_place(world: World) -> None:
    one, two = await world.state.add_task(), await world.state.add_task()
    async with world.socket("/logs") as client:
        await subscribe(client, {"task_ids": [one.id]})
        first = await world.state.add_event(one, "first")
        skipped = await world.state.add_event(two, "skipped so far")
        assert (await receive(client))["id"] == first.stream_id
        answer = await subscribe(client, {"task_ids": [one.id, two.id]})
        assert answer["after"] == first.stream_id
        assert answer["subscribed"] == {"task_ids": [one.id, two.id]}
        assert (await receive(client))["id"] == skipped.stream_id
        later = await world.state.add_event(one, "later")
        assert (await receive(client))["id"] == later.stream_id


async def test_changing_all_the_time_misses_and_repeats_nothing(world: World) -> None:
    task = await world.state.add_task()
    count = 200
    async with world.socket("/logs") as client:
        await subscribe(client, {"task_ids": [task.id]})

        async def write() -> list[str]:
            ids = []
            for n in range(count):
                ids.append((await world.state.add_event(task, str(n))).stream_id)
                await asyncio.sleep(0)
            return ids

        async def change() -> None:
            for n in range(20):
                await client.send(
                    json.dumps({"subscribe": {"task_ids": [task.id], "levels": ["info", "error"][: n % 2]}})
                )
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write())
            group.create_task(change())
            got: list[str] = []
            while len(got) < count:
                frame = await receive(client)
                if "id" in frame:
                    got.append(frame["id"])
        assert got == writing.result()


async def test_after_resumes(world: World) -> None:
    task = await world.state.add_task()
    events = [await world.state.add_event(task, str(n)) for n in range(3)]
    async with world.socket("/logs") as client:
        answer = await subscribe(client, {"task_ids": [task.id]}, after=events[0].stream_id)
        assert answer["after"] == events[0].stream_id
        assert [(await receive(client))["message"] for _ in range(2)] == ["1", "2"]


async def test_a_name_brings_back_its_place_and_its_filters(world: World) -> None:
    task = await world.state.add_task()
    name = new_id()
    filters = {"task_ids": [task.id], "levels": ["info"]}
    async with world.socket("/logs") as client:
        answer = await subscribe(client, filters, name=name)
        assert answer["name"] == name
        seen = await world.state.add_event(task, "seen")
        assert (await receive(client))["id"] == seen.stream_id
    await until(lambda: world.state.subscriptions[name].last_seen_stream_id == seen.stream_id)
    missed = await world.state.add_event(task, "missed")
    await world.state.add_event(task, "of another level", level=event_pb2.Event.LEVEL_DEBUG)
    async with world.socket("/logs") as client:
        assert await subscribe(client, name=name) == {"subscribed": filters, "name": name, "after": seen.stream_id}
        assert (await receive(client))["id"] == missed.stream_id
        last = await world.state.add_event(task, "last")
        assert (await receive(client))["id"] == last.stream_id
    await until(lambda: world.state.subscriptions[name].last_seen_stream_id == last.stream_id)
    async with world.socket("/logs") as client:
        # Other filters replace the kept ones, and an `after` counts before the kept place.
        answer = await subscribe(client, {"task_ids": [task.id]}, name=name, after=seen.stream_id)
        assert answer["subscribed"] == {"task_ids": [task.id]}
        assert [(await receive(client))["message"] for _ in range(3)] == ["missed", "of another level", "last"]
    async with world.socket("/logs") as client:
        # Empty filters are none.
        assert (await subscribe(client, {}, name=name))["subscribed"] == {"task_ids": [task.id]}


async def test_a_new_name_is_at_the_time_of_its_first_visit(world: World) -> None:
    task = await world.state.add_task()
    name = new_id()
    async with world.socket("/logs") as client:
        await subscribe(client, {"task_ids": [task.id]}, name=name)
        # Kept by now: a gateway that is killed keeps nothing any more.
        assert world.state.subscriptions[name].last_seen_stream_id
    event = await world.state.add_event(task, "while nobody was there")
    async with world.socket("/logs") as client:
        await subscribe(client, name=name)
        assert (await receive(client))["id"] == event.stream_id


async def test_a_place_is_kept_at_most_once_a_second_and_while_it_is_idle(world: World) -> None:
    task = await world.state.add_task()
    name = new_id()
    async with world.socket("/logs") as client:
        await subscribe(client, {"task_ids": [task.id]}, name=name)
        for n in range(50):
            event = await world.state.add_event(task, str(n))
        while (await receive(client))["message"] != "49":
            pass
        await until(lambda: world.state.subscriptions[name].last_seen_stream_id == event.stream_id)
    assert len([s for s in world.state.saves if s.name == name]) <= 3


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("{", None),
        ('"subscribe"', "body"),
        ("[1]", "body"),
        ("{}", "subscribe"),
        (b"\xff", None),
        ('{"subscribe":{},"after":"7"}', "after"),
        ('{"subscribe":{},"name":"a b"}', "name"),
        ('{"subscribe":{"task_id":["x"]}}', "subscribe.task_id"),
        ('{"subscribe":{"task_ids":["x"]}}', "subscribe.task_ids[0]"),
        ('{"subscribe":{"levels":["fatal"]}}', "subscribe.levels[0]"),
        ('{"subscribe":{"contains":"\\u0000"}}', "subscribe.contains"),
        ('{"subscribe":{"context":{"a":1}}}', "subscribe.context.a"),
        ('{"subscribe":{"context":{"":"1"}}}', "subscribe.context"),
        ('{"unsubscribe":{}}', "unsubscribe"),
    ],
)
async def test_rubbish_is_told_and_closed(world: World, message: str | bytes, field: str | None) -> None:
    async with world.socket("/logs") as client:
        await client.send(message)
        error = (await receive(client))["error"]
        assert error["code"] == "invalid_request"
        assert [e["field"] for e in error.get("errors", [])] == ([] if field is None else [field])
        assert (await closed(client))[0] == 4400


@pytest.mark.parametrize("message", ['{"subscribe":{},"name":"x"}', '{"subscribe":{},"after":"1-0"}', "{}", "no"])
async def test_a_later_message_is_checked_as_well(world: World, message: str) -> None:
    async with world.socket("/logs") as client:
        await subscribe(client, {})
        await client.send(message)
        while "error" not in (frame := await receive(client)):
            pass
        assert frame["error"]["code"] == "invalid_request"
        assert (await closed(client))[0] == 4400


async def test_a_client_that_says_nothing_is_told_what_to_say() -> None:
    async with open_world(subscribe_timeout_seconds=0.1) as world, world.socket("/logs") as client:
        assert "subscribe" in (await receive(client))["error"]["detail"]
        assert (await closed(client))[0] == 4400


async def test_a_frame_over_the_limit_is_refused(world: World) -> None:
    async with world.socket("/logs") as client:
        await client.send(" " * (64 * 1024 + 1))
        assert (await closed(client))[0] == 1009


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("request_line", "more", "status"),
    [
        (b"GET /api/v1/ws/logs?a=" + b"a" * 9000, b"", 414),
        (b"GET /api/v1/ws/logs", b"X: " + b"a" * 9000 + b"\r\n", 431),
        (b"GET /api/v1/ws/logs", b"X: a\r\n" * 200, 431),
        (b"POST /api/v1/ws/logs", b"", 405),
        (b"GET /api/v1/ws/logs", b"Content-Length: 5\r\n", 400),
        (b"GET /api/v1/ws/logs?\xe9", b"", 400),
        (b"GET /api/v1/ws/nothing", b"", 403),
    ],
)
async def test_a_handshake_that_is_wrong_is_answered(
    world: World, request_line: bytes, more: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(request_line + b" HTTP/1.1\r\nHost: localhost\r\n" + more + UPGRADE + b"\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


async def test_text_that_is_not_utf_8_closes_with_a_reason(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"GET /api/v1/ws/logs HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n")
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81\x82\0\0\0\0\xff\xff")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer[2:4] == (1007).to_bytes(2)
    assert b"UTF-8" in answer


async def test_an_idle_socket_carries_heartbeats() -> None:
    async with open_world(stream_heartbeat_seconds=0.05) as world:
        task = await world.state.add_task()
        async with world.socket(f"/tasks/{task.id}") as one, world.socket("/logs") as two:
            await two.send('{"subscribe":{}}')
            assert "subscribed" in json.loads(await two.recv())
            for client in (one, two):
                for _ in range(2):
                    assert json.loads(await client.recv()) == {"kind": "heartbeat"}


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with open_world(send_timeout_seconds=0.3) as world:
        task = await world.state.add_task()
        raw = socket.create_connection(("127.0.0.1", world.port))
        with raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.sendall(
                f"GET /api/v1/ws/tasks/{task.id} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            await until(lambda: world.state.open_streams == 1)
            for _ in range(200):
                await world.state.add_event(task, "x" * 100_000)
            await until(lambda: world.state.open_streams == 0)


async def test_what_a_slow_client_has_waiting_for_it_holds_up_no_end() -> None:
    async with open_world(grace_seconds=10) as world:
        task = await world.state.add_task()
        events = [await world.state.add_event(task, "x" * 100_000) for _ in range(200)]
        async with world.socket(f"/tasks/{task.id}", max_queue=1, compression=None) as client:
            assert (await receive(client))["id"] == events[0].stream_id
            world.stopping.set()
            received = 1
            with contextlib.suppress(ConnectionClosed):
                async for _ in client:
                    received += 1
        assert client.close_code == 1012
        assert received < len(events)


async def test_what_a_slow_client_has_waiting_for_it_holds_up_no_other_subscription(world: World) -> None:
    task = await world.state.add_task()
    events = [await world.state.add_event(task, "x" * 100_000) for _ in range(200)]
    async with world.socket("/logs", max_queue=1, compression=None) as client:
        before = f"{int(events[0].stream_id.split('-')[0]) - 1}-0"
        await subscribe(client, {"task_ids": [task.id]}, after=before)
        assert (await receive(client))["id"] == events[0].stream_id
        await client.send(json.dumps({"subscribe": {"task_ids": [task.id], "levels": ["error"]}}))
        received = 1
        while "subscribed" not in await receive(client):
            received += 1
        assert received < len(events)


async def test_streams_are_bounded() -> None:
    async with open_world(max_streams=1) as world:
        task = await world.state.add_task()
        async with world.socket(f"/tasks/{task.id}"):
            await until(lambda: world.state.open_streams == 1)
            async with world.socket(f"/tasks/{task.id}") as client:
                assert (await receive(client))["error"]["code"] == "too_many_streams"
                assert (await closed(client))[0] == 1013


@pytest.mark.parametrize("path", ["tasks", "logs"])
async def test_a_log_service_that_has_no_room_closes_with_try_again_later(world: World, path: str) -> None:
    task = await world.state.add_task()
    world.state.failures["StreamEvents"] = TooManyStreams("All 5 streams are in use.")
    async with world.socket(f"/tasks/{task.id}" if path == "tasks" else "/logs") as client:
        await client.send('{"subscribe":{}}')
        assert (await receive(client))["error"]["code"] == "too_many_streams"
        assert await closed(client) == (1013, "All 5 streams are in use.")


async def test_a_log_service_that_is_away_closes_with_try_again_later() -> None:
    async with open_world(rpc_timeout_seconds=0.2) as world:
        await world.services.log.stop()
        for path in (f"/tasks/{new_id()}", "/logs"):
            async with world.socket(path) as client:
                await client.send('{"subscribe":{}}')
                assert (await receive(client))["error"]["code"] == "unavailable"
                assert (await closed(client))[0] == 1013


async def test_a_stop_of_the_gateway_closes_with_service_restart_and_keeps_places() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        async with world.socket(f"/tasks/{task.id}") as one, world.socket("/logs") as two:
            await subscribe(two, {}, name="mine")
            await until(lambda: world.state.open_streams == 2)
            event = await world.state.add_event(task)
            assert [(await receive(c))["id"] for c in (one, two)] == [event.stream_id] * 2
            world.stopping.set()
            assert [(await closed(c))[0] for c in (one, two)] == [1012, 1012]
        await until(lambda: world.state.subscriptions["mine"].last_seen_stream_id == event.stream_id)
