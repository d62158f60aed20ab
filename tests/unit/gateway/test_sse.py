"""Server-sent events: each event once and in order, whatever restarts, up to the end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hearth.agent.v1 import task_pb2
from hearth.log.v1 import event_pb2
from hearth_runtime.errors import TooManyStreams, Unavailable
from hearth_runtime.identifiers import new_id
from servers.gateway import Sent, World, open_world, until


async def rest(stream: AsyncIterator[Sent]) -> list[Sent]:
    """What is left of the stream."""
    return [sent async for sent in stream]


async def test_a_stream_shows_the_run_and_ends(world: World) -> None:
    task = await world.state.add_task()
    first = await world.state.add_event(task, "line 1\nline 2 – ☕", context='{"b": 1,\n "a": [1.50, null]}')
    async with world.stream(task.id) as stream:
        assert (await anext(stream)).id == first.stream_id
        live = await world.state.add_event(task, "Red", kind=event_pb2.Event.KIND_DELTA)
        shown = await anext(stream)
        assert (shown.id, shown.event) == (live.stream_id, "delta")
        await world.state.end_task(task)
        end = await rest(stream)
    assert [(e.event, e.data) for e in end] == [("end", {"kind": "end", "task_id": task.id, "status": "completed"})]


async def test_the_wire_is_as_the_specification_has_it(world: World) -> None:
    task = await world.state.add_task()
    event = await world.state.add_event(task, "one", context='{"n": 1.50}', level=event_pb2.Event.LEVEL_WARNING)
    event.timestamp.FromJsonString("2026-01-02T03:04:05.678901Z")
    trace_id = "ab" * 16
    event.traceparent = f"00-{trace_id}-{'cd' * 8}-01"
    await world.state.end_task(task, task_pb2.Task.STATUS_FAILED)
    answer = await world.http.get(f"/logs/stream/{task.id}")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    data = (
        f'{{"id":"{event.stream_id}","task_id":"{task.id}","agent_id":"{task.agent_id}","attempt":1,"kind":"log",'
        '"level":"warning","message":"one","context":{"n": 1.50},"timestamp":"2026-01-02T03:04:05.678901Z",'
        f'"trace_id":"{trace_id}"}}'
    )
    assert answer.text == (
        "retry: 1000\n\n"
        f"event: log\ndata: {data}\nid: {event.stream_id}\n\n"
        f'event: end\ndata: {{"kind":"end","task_id":"{task.id}","status":"failed"}}\n\n'
    )


async def test_a_stream_resumes_after_the_last_event_that_was_seen(world: World) -> None:
    task = await world.state.add_task()
    events = [await world.state.add_event(task, str(n)) for n in range(6)]
    await world.state.end_task(task)
    ids = [e.stream_id for e in events]
    async with world.stream(task.id, after=ids[3]) as stream:
        assert [e.id for e in await rest(stream)] == [*ids[4:], ""]
    async with world.stream(task.id, last_event_id=ids[1]) as stream:
        assert [e.id for e in await rest(stream)] == [*ids[2:], ""]
    # A browser that connects again sends the header with the address of its first visit.
    async with world.stream(task.id, after=ids[4], last_event_id=ids[1]) as stream:
        assert [e.id for e in await rest(stream)] == [*ids[5:], ""]
    async with world.stream(task.id, after="") as stream:
        assert len(await rest(stream)) == 7


async def test_events_that_are_there_are_sent_together_and_never_much_at_once() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        ids = [(await world.state.add_event(task, "x" * 1000)).stream_id for _ in range(500)]
        await world.state.end_task(task)
        async with world.http.stream("GET", f"/logs/stream/{task.id}") as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
        text = b"".join(pieces).decode()
        assert [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")] == ids
        assert len(pieces) < 100


async def test_kinds_select(world: World) -> None:
    task = await world.state.add_task()
    for kind in ("STATUS", "DELTA", "MESSAGE", "LOG"):
        await world.state.add_event(task, kind, kind=event_pb2.Event.Kind.Value(f"KIND_{kind}"))
    await world.state.end_task(task)
    for kinds in ("status,message", ["status", "message"]):
        async with world.stream(task.id, kinds=kinds) as stream:
            assert [e.event for e in await rest(stream)] == ["status", "message", "end"]


@pytest.mark.parametrize(
    ("headers", "params", "field", "text"),
    [
        ({"Last-Event-ID": "7"}, {}, "last-event-id", "1764000000000-0"),
        ({}, {"last_event_id": "$"}, "last_event_id", "1764000000000-0"),
        ({}, {"kinds": "status,noise"}, "kinds[1]", "'delta'"),
        ({}, {"kind": "status"}, "kind", "did you mean `kinds`?"),
    ],
)
async def test_what_is_wrong_is_a_problem_before_the_stream(
    world: World, headers: dict[str, str], params: dict[str, str], field: str, text: str
) -> None:
    task = await world.state.add_task()
    answer = await world.http.get(f"/logs/stream/{task.id}", headers=headers, params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert text in answer.json()["errors"][0]["message"]


async def test_an_unknown_task_is_404_before_the_stream(world: World) -> None:
    answer = await world.http.get(f"/logs/stream/{new_id()}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_client_that_leaves_ends_the_stream_behind_it(world: World) -> None:
    task = await world.state.add_task()
    before = world.state.open_streams
    async with world.stream(task.id) as stream:
        await world.state.add_event(task)
        await anext(stream)
        assert world.state.open_streams == before + 1
    await until(lambda: world.state.open_streams == before)


async def test_a_restart_of_the_log_service_goes_unnoticed() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        sent = []

        async def watch(**params: str) -> list[Sent]:
            async with world.stream(task.id, **params) as stream:
                return await rest(stream)

        # Two that share a call to it, and one that has another.
        watching = [asyncio.create_task(each) for each in (watch(), watch(), watch(kinds="log"))]
        await until(lambda: world.state.open_streams == 2)
        for n in range(3):
            sent += [await world.state.add_event(task, f"{n} before") for n in range(n * 3)]
            await world.services.log.stop()
            assert world.state.open_streams == 0
            sent.append(await world.state.add_event(task, "while it is away"))
            await world.services.log.start()
            sent.append(await world.state.add_event(task, "after"))
        await world.state.end_task(task)
        expected = [*[e.stream_id for e in sent], ""]
        for each in watching:
            assert [e.id for e in await each] == expected


async def test_an_idle_stream_carries_heartbeats_also_while_the_log_service_is_away() -> None:
    async with open_world(stream_heartbeat_seconds=0.05) as world:
        task = await world.state.add_task()
        async with world.http.stream("GET", f"/logs/stream/{task.id}") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            await world.services.log.stop()
            beats = 0
            async for line in lines:
                beats += line == ": heartbeat"
                if beats == 3:
                    break
            await world.services.log.start()


async def test_a_log_service_that_stays_away_ends_the_stream_with_the_problem() -> None:
    async with open_world(stream_resume_seconds=0.3) as world:
        task = await world.state.add_task()
        async with world.stream(task.id) as stream:
            await world.state.add_event(task)
            await anext(stream)
            await world.services.log.stop()
            (error,) = await rest(stream)
        assert error.event == "error"
        assert error.data["code"] == "unavailable"
        assert error.data["instance"] == f"/api/v1/logs/stream/{task.id}"


async def test_a_silent_log_service_is_left_for_another_stream() -> None:
    async with open_world(stream_idle_seconds=0.2) as world:
        task = await world.state.add_task()
        async with world.stream(task.id) as stream:
            await until(lambda: world.state.streams_opened >= 3)
            event = await world.state.add_event(task)
            await world.state.end_task(task)
            assert [e.id for e in await rest(stream)] == [event.stream_id, ""]


async def test_a_stream_that_cannot_be_opened_is_503(world: World) -> None:
    task = await world.state.add_task()
    world.state.failures["StreamEvents"] = Unavailable("The storage service does not answer.")
    answer = await world.http.get(f"/logs/stream/{task.id}")
    assert (answer.status_code, answer.json()["detail"]) == (503, "The storage service does not answer.")


async def test_streams_are_bounded() -> None:
    async with open_world(max_streams=1) as world:
        task = await world.state.add_task()
        async with world.stream(task.id):
            answer = await world.http.get(f"/logs/stream/{task.id}")
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
            assert "retry-after" in answer.headers
        await until(lambda: world.state.open_streams == 0)
        await world.state.end_task(task)
        async with world.stream(task.id) as stream:
            assert [e.event for e in await rest(stream)] == ["end"]


async def test_a_log_service_that_has_no_room_is_told_before_the_stream_begins(world: World) -> None:
    task = await world.state.add_task()
    world.state.failures["StreamEvents"] = TooManyStreams("All are in use.", retry_after_seconds=3)
    answer = await world.http.get(f"/logs/stream/{task.id}")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
    assert answer.headers["retry-after"] == "3"


async def test_a_stop_of_the_gateway_closes_streams_without_an_end() -> None:
    async with open_world() as world:
        task = await world.state.add_task()
        async with world.stream(task.id) as stream:
            event = await world.state.add_event(task)
            assert (await anext(stream)).id == event.stream_id
            world.stopping.set()
            assert await rest(stream) == []
