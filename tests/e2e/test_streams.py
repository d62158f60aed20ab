"""Live streams over SSE: resumed, filtered, ended, independent of each other."""

import asyncio

import pytest
from system.client import Client, ServerSentEvent

LONG = {"max_tokens": 120, "temperature": 0, "stop": []}


async def follow_with_breaks(client: Client, task_id: str, *, breaks: int) -> list[ServerSentEvent]:
    """Reads a few events, drops the connection and resumes, `breaks` times; then reads to the end."""
    seen: list[ServerSentEvent] = []
    for _ in range(breaks):
        async with client.stream(task_id, after=seen[-1].id if seen else None) as stream:
            seen += [await anext(stream) for _ in range(6)]
        assert seen[-1].event != "end"
    return seen + await client.events(task_id, after=seen[-1].id)


async def test_a_subscriber_that_reconnects_misses_and_doubles_nothing(client: Client) -> None:
    agent = await client.create_agent(config=LONG)
    task_id = await client.run(agent["id"], "Write a long story about the sea.")
    steady, broken = await asyncio.gather(client.events(task_id), follow_with_breaks(client, task_id, breaks=3))
    assert steady[-1].event == broken[-1].event == "end"
    assert [(e.id, e.event, e.data) for e in broken[:-1]] == [(e.id, e.event, e.data) for e in steady[:-1]]
    order = [tuple(int(part) for part in e.id.split("-")) for e in steady[:-1]]
    assert order == sorted(set(order))
    assert sum(e.event == "delta" for e in steady) > 20


async def test_kinds_narrow_a_stream(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 4})
    task_id = await client.run(agent["id"])
    events = await client.events(task_id, kinds="message,status")
    assert {e.event for e in events} == {"message", "status", "end"}
    answer = await client.http.get(f"/logs/stream/{task_id}", params={"kinds": "messages"})
    assert answer.status_code == 422
    assert "message" in answer.text


async def test_a_stream_of_no_task_is_404_and_of_no_place_is_422(client: Client) -> None:
    answer = await client.http.get("/logs/stream/01900000-0000-7000-8000-000000000000")
    assert answer.status_code == 404
    assert answer.json()["code"] == "task_not_found"
    agent = await client.create_agent(config={"max_tokens": 4})
    task_id = await client.run(agent["id"])
    answer = await client.http.get(f"/logs/stream/{task_id}", headers={"Last-Event-ID": "yesterday"})
    assert answer.status_code == 422


@pytest.mark.parametrize("subscribers", [20])
async def test_many_subscribers_see_the_same(client: Client, subscribers: int) -> None:
    agent = await client.create_agent(config={**LONG, "max_tokens": 40})
    task_id = await client.run(agent["id"], "Count to twenty.")
    seen = await asyncio.gather(*(client.events(task_id) for _ in range(subscribers)))
    assert all(events == seen[0] for events in seen)
    assert seen[0][-1].event == "end"


async def test_a_finished_run_is_replayed_and_ends_at_once(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 4})
    task_id = await client.run(agent["id"])
    live = await client.events(task_id)
    async with asyncio.timeout(5):
        replayed = await client.events(task_id)
    assert [e for e in replayed if e.event != "delta"] == [e for e in live if e.event != "delta"]
    assert (await client.events(task_id, after=live[-2].id))[0].event == "end"
