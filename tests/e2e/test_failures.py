"""What goes wrong with models and people: cancels, time-outs, retries, fallback, a host that is away."""

import asyncio
import time

from fakes.ollama import Behaviour, FakeOllama
from system.client import Client
from system.waiting import eventually


async def test_a_run_cancelled_in_mid_sentence_stops_within_a_second(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("endless:1b", Behaviour(pieces=("word ",) * 10_000, seconds_between=0.02))
    agent = await client.create_agent(model_name="endless:1b")
    task_id = await client.run(agent["id"])
    async with client.stream(task_id) as stream:
        async for event in stream:
            if event.event == "delta":
                break
        cancelled = time.monotonic()
        answer = await client.http.delete(f"/tasks/{task_id}")
        assert answer.status_code == 202
        async with asyncio.timeout(1):
            await fake_ollama.requests["endless:1b"][0].done.wait()
        rest = [event async for event in stream]
    assert fake_ollama.requests["endless:1b"][0].disconnected
    assert time.monotonic() - cancelled < 3
    assert rest[-1].event == "end"
    assert rest[-1].data["status"] == "cancelled"
    task = await client.task(task_id)
    assert task["status"] == "cancelled"
    assert task["output"] is None
    assert (await client.http.delete(f"/tasks/{task_id}")).status_code == 409


async def test_a_real_model_stops_too(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 4000})
    task_id = await client.run(agent["id"], "Write a very long story.")
    async with client.stream(task_id) as stream:
        async for event in stream:
            if event.event == "delta":
                break
        await client.http.delete(f"/tasks/{task_id}")
        assert [event async for event in stream][-1].data["status"] == "cancelled"


async def test_a_queued_run_that_is_cancelled_never_starts(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("slow:1b", Behaviour(seconds_before_first=1.5))
    agent = await client.create_agent(model_name="slow:1b", config={"max_retries": 0})
    busy = [await client.run(agent["id"], f"{n}") for n in range(8)]
    for task_id in busy:
        await client.wait(task_id, status=("running", "completed"))
    queued = await client.run(agent["id"], "never")
    answer = await client.http.delete(f"/tasks/{queued}")
    assert answer.json()["status"] == "cancelled"
    events = await client.events(queued)
    assert [(e.event, e.data.get("context", e.data).get("status")) for e in events] == [
        ("status", "cancelled"),
        ("end", "cancelled"),
    ]
    for task_id in busy:
        assert (await client.wait(task_id))["status"] == "completed"
    task = await client.task(queued)
    assert (task["status"], task["attempt"], task["started_at"]) == ("cancelled", 0, None)
    prompts = [r.body["messages"][-1]["content"] for r in fake_ollama.requests["slow:1b"]]
    assert "never" not in prompts


async def test_a_model_that_is_not_there_fails_at_once_and_says_so(client: Client) -> None:
    agent = await client.create_agent(model_name="absent:7b")
    task_id = await client.run(agent["id"])
    task = await client.wait(task_id)
    assert task["status"] == "failed"
    assert task["error_code"] == "model_not_found"
    assert "ollama pull absent:7b" in task["error_message"]
    assert task["attempt"] == 1
    events = await client.events(task_id)
    assert events[-2].data["level"] == "error"
    assert "absent:7b" in events[-2].data["message"]
    assert events[-1].data["status"] == "failed"


async def test_a_host_that_fails_before_the_first_token_is_asked_again(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("flaky:1b", Behaviour(status=500, error="out of memory"), Behaviour(pieces=("fine",)))
    agent = await client.create_agent(model_name="flaky:1b")
    task = await client.wait(await client.run(agent["id"]))
    assert task["status"] == "completed"
    assert task["output"]["text"] == "fine"
    assert task["attempt"] == 1
    assert len(fake_ollama.requests["flaky:1b"]) == 2


async def test_an_answer_that_breaks_off_is_a_retry_of_the_run(client: Client, fake_ollama: FakeOllama) -> None:
    for name, broken in {
        "cut:1b": Behaviour(pieces=("half", " a"), cut_after=1),
        "unfinished:1b": Behaviour(end_after=2),
        "rubbish:1b": Behaviour(rubbish_after=2),
        "error:1b": Behaviour(error_after=1, error="the runner has died"),
        "stalled:1b": Behaviour(stall_after=1),
    }.items():
        fake_ollama.behave(name, broken, Behaviour(pieces=("whole",)))
        agent = await client.create_agent(model_name=name)
        task_id = await client.run(agent["id"])
        task = await client.wait(task_id)
        assert (task["status"], task["attempt"], task["retry_count"]) == ("completed", 2, 1), (name, task)
        assert task["output"]["text"] == "whole", name
        events = await client.events(task_id)
        attempts = [e.data["attempt"] for e in events if e.event == "delta"]
        assert attempts == sorted(attempts), name
        assert any(e.data["level"] == "warning" for e in events if e.event == "log"), name


async def test_retries_run_out(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("broken:1b", Behaviour(status=503, error="busy"))
    agent = await client.create_agent(model_name="broken:1b", config={"max_retries": 1})
    task = await client.wait(await client.run(agent["id"]))
    assert (task["status"], task["attempt"], task["retry_count"]) == ("failed", 2, 1)
    assert task["error_code"] == "model_host_unavailable"
    assert "busy" in task["error_message"]


async def test_what_the_host_refuses_is_not_repeated(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("picky:1b", Behaviour(status=400, error="context too long"))
    agent = await client.create_agent(model_name="picky:1b")
    task = await client.wait(await client.run(agent["id"]))
    assert (task["status"], task["attempt"], task["error_code"]) == ("failed", 1, "model_refused")
    assert len(fake_ollama.requests["picky:1b"]) == 1


async def test_fallback_models_in_their_order(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("down:1b", Behaviour(status=500))
    fake_ollama.behave("spare:1b", Behaviour(pieces=("spare",)))
    agent = await client.create_agent(
        model_name="gone:1b", config={"fallback_models": ["down:1b", "spare:1b", "smollm2:135m"]}
    )
    task_id = await client.run(agent["id"])
    task = await client.wait(task_id)
    assert task["output"]["text"] == "spare"
    assert task["output"]["model"] == "spare:1b"
    codes = [e.data["context"].get("code") for e in await client.events(task_id) if e.event == "log"]
    assert codes.count("fallback") == 2


async def test_a_run_ends_at_its_time_limit(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("tireless:1b", Behaviour(pieces=("word ",) * 10_000, seconds_between=0.02))
    agent = await client.create_agent(model_name="tireless:1b", config={"timeout_seconds": 1})
    task = await client.wait(await client.run(agent["id"]))
    assert (task["status"], task["attempt"], task["error_code"]) == ("failed", 1, "run_timeout")
    assert "timeout_seconds" in task["error_message"]


async def test_ollama_away_then_back(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("homely:1b", Behaviour(pieces=("home",)))
    agent = await client.create_agent(model_name="homely:1b", config={"max_retries": 10})
    await fake_ollama.stop()
    try:
        task_id = await client.run(agent["id"])

        async def retried() -> bool:
            return int((await client.task(task_id))["retry_count"]) >= 1

        await eventually(retried, what="a retry")
    finally:
        await fake_ollama.start()
    task = await client.wait(task_id)
    assert (task["status"], task["output"]["text"]) == ("completed", "home")


async def test_an_answer_is_cleaned_and_its_schema_checked(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("dirty:1b", Behaviour(pieces=("a\u0000b\u001b[31m", "\tc\r\n", "é\u0085")))
    agent = await client.create_agent(model_name="dirty:1b")
    assert (await client.wait(await client.run(agent["id"])))["output"]["text"] == "ab[31m\tc\né"

    fake_ollama.behave("liar:1b", Behaviour(pieces=('{"colour": 7}',)), Behaviour(pieces=('{"colour": "red"}',)))
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    agent = await client.create_agent(model_name="liar:1b", config={"output_schema": schema})
    task = await client.wait(await client.run(agent["id"]))
    assert task["status"] == "completed", (task["attempt"], task["error_code"], task["error_message"])
    assert task["output"]["data"] == {"colour": "red"}
    assert task["attempt"] == 1
    lie, truth = fake_ollama.requests["liar:1b"]
    assert lie.body["format"] == truth.body["format"] == schema
    # It was shown what was wrong.
    assert '7 is not of type "string"' in truth.body["messages"][-1]["content"]


async def test_an_answer_cut_at_its_length_says_so(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("short:1b", Behaviour(done_reason="length"))
    agent = await client.create_agent(model_name="short:1b")
    task_id = await client.run(agent["id"])
    await client.wait(task_id)
    message = next(e for e in await client.events(task_id) if e.event == "message")
    assert message.data["context"]["finish_reason"] == "length"
