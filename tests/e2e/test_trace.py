"""One run is one trace, from the HTTP request through all five services, with all attempts and sub-tasks."""

import asyncio
import json
import secrets

from fakes.ollama import Behaviour, FakeOllama, called
from system.client import Client
from system.instance import Instance
from system.traces import Span, TraceReceiver
from system.waiting import until

SERVICES = {"gateway", "agent", "worker", "inference", "log", "storage"}


async def test_a_run_is_one_tree_over_all_services(client: Client, hearth: Instance, traces: TraceReceiver) -> None:
    agent = await client.create_agent(config={"max_tokens": 4})
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    answer = await client.http.post(
        "/agents/run",
        json={"agent_id": agent["id"], "input": {"prompt": "hi"}},
        headers={"traceparent": f"00-{trace_id}-{parent}-01"},
    )
    await client.wait(answer.json()["task_id"])

    spans = await whole(traces, trace_id, parent)
    assert [s.service for s in spans if s.parent_id == parent] == ["gateway"]
    names = {(s.service, s.name) for s in spans}
    assert ("worker", "run attempt") in names
    assert any(service == "inference" and name.startswith("chat") for service, name in names), names
    assert any(service == "storage" and "ClaimTask" in name for service, name in names), names
    assert any(service == "log" for service, _ in names), names


async def test_a_trace_has_every_attempt_step_call_and_sub_task(
    client: Client, hearth: Instance, traces: TraceReceiver, fake_ollama: FakeOllama
) -> None:
    native = ("completion", "tools")
    calls = (called("calculator", expression="6 * 7"), called("helper", task="Say a secret word."))
    said = Behaviour(pieces=("It is 42.",), capabilities=native)
    fake_ollama.behave(
        "traced:1b",
        Behaviour(pieces=("half", " a"), cut_after=1, capabilities=native),
        Behaviour(pieces=(), tool_calls=calls, capabilities=native, after_results=(said, said)),
    )
    fake_ollama.behave("traced-helper:1b", Behaviour(pieces=("Sesame.",)))
    helper = await client.create_agent(name="helper", model_name="traced-helper:1b")
    config = {"workflow": "tools", "agents": [helper["id"]], "budget": {"max_tool_calls": 9}}
    agent = await client.create_agent(model_name="traced:1b", config=config)
    await client.http.post(f"/agents/{agent['id']}/tools", json={"tool_name": "calculator"})
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    answer = await client.http.post(
        "/agents/run",
        json={"agent_id": agent["id"], "input": {"prompt": "What is 6 * 7?"}},
        headers={"traceparent": f"00-{trace_id}-{parent}-01"},
    )
    task = await client.wait(answer.json()["task_id"])
    assert (task["status"], task["retry_count"], task["trace_id"]) == ("completed", 1, trace_id), task
    url = f"https://traces.example.org/trace/{trace_id}"
    assert task["links"]["trace"] == answer.json()["links"]["trace"] == url
    (sub_task,) = await client.all_pages("/tasks", parent_task_id=task["id"])
    assert sub_task["trace_id"] == trace_id
    assert sub_task["input"] == {"prompt": "Say a secret word.", "budget": {"max_tool_calls": 9}}

    spans = await whole(traces, trace_id, parent, runs=2, chats=4)
    by_id = {s.span_id: s for s in spans}

    def above(span: Span) -> list[str]:
        """The names of the spans that the span is below."""
        names = []
        while span.parent_id != parent:
            span = by_id[span.parent_id]
            names.append(span.name)
        return names

    def named(name: str, **attributes: object) -> list[Span]:
        found = (s for s in spans if s.name == name and attributes.items() <= s.attributes.items())
        return sorted(found, key=lambda s: s.start)

    # The attempts: one that failed, one that waited for the sub-task, one that ended; each after its wait in the queue.
    attempts = named("run attempt", **{"hearth.task_id": task["id"]})
    assert [s.attributes["hearth.outcome"] for s in attempts] == ["retried", "waiting", "completed"]
    assert [s.is_error for s in attempts] == [True, False, False]
    waits = named("queue wait", **{"hearth.task_id": task["id"]})
    assert [s.attributes["hearth.attempt"] for s in waits] == [s.attributes["hearth.attempt"] for s in attempts]
    for wait, attempt in zip(waits, attempts, strict=True):
        assert wait.end - wait.start < 30
        assert wait.start < wait.end <= attempt.start + 0.01
        assert wait.parent_id == attempt.parent_id
    # The steps are below their attempts, and what a step asks for is below the step.
    steps = named("step act")
    assert steps[0].is_error
    assert [s.parent_id for s in steps] == [attempts[0].span_id, attempts[1].span_id, attempts[2].span_id]
    assert {s.parent_id for s in named("step observe")} == {attempts[1].span_id, attempts[2].span_id}
    chats = named("chat traced:1b")
    assert [s.is_error for s in chats] == [True, False, False]
    assert all(above(s)[-1] == above(attempts[0])[-1] for s in chats)
    assert [any(name == "step act" for name in above(s)) for s in chats] == [True] * 3
    fine = chats[-1].attributes
    assert fine["gen_ai.operation.name"] == "chat"
    assert fine["gen_ai.provider.name"] == "ollama"
    assert fine["gen_ai.request.model"] == "traced:1b"
    assert (fine["gen_ai.usage.input_tokens"], fine["gen_ai.usage.output_tokens"]) == (7, 1)
    assert fine["gen_ai.response.finish_reasons"] == ["stop"]
    (tool,) = named("execute_tool calculator")
    assert tool.attributes["hearth.tool.outcome"] == "ok"
    assert above(tool)[0] == "step observe"
    # The sub-task is below the tool that asked for it.
    (sub_attempt,) = named("run attempt", **{"hearth.task_id": sub_task["id"]})
    assert "execute_tool helper" in above(sub_attempt)
    assert "run attempt" in above(named("chat traced-helper:1b")[0])
    # Storage's statements say which they are, and are below who asked for them.
    statements = {s.name: s for s in spans if "db.query.summary" in s.attributes}
    assert "run attempt" in above(statements["finish_task"])
    assert statements["create_tasks"].parent_id in by_id
    assert "persist events" in above(statements["append_events"])
    # So have the lines of the run's log.
    logs = await client.all_pages(f"/tasks/{task['id']}/logs")
    *events, _ = await client.events(task["id"])
    assert {log["trace_id"] for log in logs} == {event.data["trace_id"] for event in events} == {trace_id}
    # What people and models said is in no span, unless that is asked for.
    assert "Sesame" not in json.dumps([s.attributes for s in spans])
    assert "6 * 7" not in json.dumps([s.attributes for s in spans])
    # And every line of the log that tells of the task has the id.
    for name in ("worker", "agent"):
        lines = [
            line for file in (hearth.home / "logs").glob(f"{name}*.log") for line in file.read_text().splitlines()
            if f"task_id={task['id']}" in line or f'"task_id":"{task["id"]}"' in line
        ]  # fmt: skip
        assert lines, name
        assert all(trace_id in line for line in lines), lines


async def whole(traces: TraceReceiver, trace_id: str, parent: str, *, runs: int = 1, chats: int = 1) -> list[Span]:
    """The trace, once spans of all services have come, the parent of each, the ends of so many runs and calls."""

    def spans() -> list[Span]:
        found = traces.trace(trace_id)
        ended = sum(s.attributes.get("hearth.outcome") == "completed" for s in found)
        kept = sum(s.name == "finish_task" for s in found)
        made = sum(s.name.startswith("chat ") for s in found)
        is_whole = {s.service for s in found} >= SERVICES and not orphans(found, parent)
        # A task in a tree is not ended by the first statement, but by the second, under the tree's lock.
        is_whole = is_whole and (ended, made) == (runs, chats) and kept >= runs
        return found if is_whole else []

    return await asyncio.to_thread(until, spans, seconds=15, what=f"a tree over {SERVICES}")


def orphans(spans: list[Span], root_parent: str) -> list[Span]:
    """Spans whose parent is not there."""
    known = {s.span_id for s in spans} | {root_parent}
    return [s for s in spans if s.parent_id not in known]
