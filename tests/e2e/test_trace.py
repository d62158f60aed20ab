"""One run is one trace, from the HTTP request through all five services."""

import secrets

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

    def whole() -> list[Span]:
        spans = traces.trace(trace_id)
        return spans if {s.service for s in spans} >= SERVICES and not orphans(spans, parent) else []

    spans = until(whole, seconds=15, what=f"a tree over {SERVICES}")
    assert [s.service for s in spans if s.parent_id == parent] == ["gateway"]
    names = {(s.service, s.name) for s in spans}
    assert ("worker", "run attempt") in names
    assert any(service == "inference" and name.startswith("chat") for service, name in names), names
    assert any(service == "storage" and "ClaimTask" in name for service, name in names), names
    assert any(service == "log" for service, _ in names), names


def orphans(spans: list[Span], root_parent: str) -> list[Span]:
    """Spans whose parent is not there."""
    known = {s.span_id for s in spans} | {root_parent}
    return [s for s in spans if s.parent_id not in known]
