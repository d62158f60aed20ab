"""Hearth in containers: it comes up with one command, is closed, spreads over replicas and outlives one."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from system.client import Client
from system.waiting import eventually, until

from compose.stack import Stack, run

OURS = ("gateway", "agent-service", "agent-worker", "inference-service", "log-service", "storage-service")
TRACED = {"gateway", "agent", "worker", "inference", "storage", "log"}
PORTS = {"storage-service": 50055, "postgres": 5432, "redis": 6379}

CONNECT = """
import socket
try:
    socket.create_connection(({host!r}, {port}), timeout=2).close()
    print("reached")
except OSError as error:
    print("closed", error)
"""

CALLS = """
import grpc
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
with grpc.insecure_channel("127.0.0.1:{port}") as channel:
    stub = runtime_service_pb2_grpc.RuntimeServiceStub(channel)
    text = stub.GetMetrics(runtime_service_pb2.GetMetricsRequest(), timeout=5).text
lines = [line for line in text.splitlines() if line.startswith("hearth_rpcs_total") and {method!r} in line]
print(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
"""


# Whichever test is the first has the images built.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("compose"))
    sys.stderr.write(f"\nimages that cannot be had here and are stood in for: {', '.join(stack.stand_ins) or 'none'}\n")
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    opened = Client(stack.url)
    yield opened
    await opened.http.aclose()


async def runs(client: Client, agent_id: str, count: int) -> list[str]:
    """Starts so many runs; their tasks' ids."""
    return [await client.run(agent_id, prompt="Hi.") for _ in range(count)]


async def all_complete(client: Client, tasks: list[str], *, seconds: float) -> None:
    """Waits for all of them to end, completed."""
    async with asyncio.timeout(seconds):
        ended = [await client.wait(task, seconds=seconds) for task in tasks]
    assert [task["status"] for task in ended] == ["completed"] * len(tasks), ended


async def test_an_agent_runs_and_its_trace_arrives(stack: Stack, client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 16})
    task = await client.run(agent["id"])
    events = [event.event for event in await client.events(task)]
    assert events[-1] == "end"
    assert "message" in events
    assert (await client.wait(task))["status"] == "completed"
    if "jaeger" in stack.stand_ins:
        (receiver,) = stack.containers("jaeger")

        def sent() -> bool:
            said = run("docker", "logs", receiver).splitlines()
            return bool(said) and set(json.loads(said[-1])) >= TRACED

        until(sent, seconds=30, what="a span of every service")


def test_prometheus_asks_every_replica_and_has_the_rules(stack: Stack) -> None:
    (container,) = stack.containers("gateway")

    def asked(path: str) -> Any:
        program = (
            f"import urllib.request as r; print(r.urlopen('http://prometheus:9090/api/v1/{path}').read().decode())"
        )
        return json.loads(stack.python(container, program))["data"]

    def up() -> bool:
        targets = asked("targets")["activeTargets"]
        return {t["labels"]["service"] for t in targets if t["health"] == "up"} == TRACED

    until(up, seconds=60, what="a target of every service that is up")
    rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert [rule for rule in rules if rule.get("lastError")] == []


def test_alerts_fire_when_they_should(stack: Stack) -> None:
    (prometheus,) = stack.containers("prometheus")
    assert "SUCCESS" in run("docker", "exec", prometheus, "promtool", "test", "rules", "/etc/prometheus/rules_test.yml")


def test_no_secret_shows_in_a_container_or_an_image(stack: Stack) -> None:
    values = [path.read_text().strip() for path in stack.secrets.iterdir()]
    words = {word for value in values for word in value.replace("@", ":").split(":") if len(word) > 40}
    assert len(words) >= 4
    shown = json.dumps(stack.inspected())
    for name in OURS:
        if name != "agent-worker":
            shown += run("docker", "history", "--no-trunc", f"hearth-{name}")
            shown += run("docker", "inspect", f"hearth-{name}")
    assert [word for word in words if word in shown] == []


def test_containers_are_confined(stack: Stack) -> None:
    published = []
    for container in stack.inspected():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        host = container["HostConfig"]
        if any(container["NetworkSettings"]["Ports"].values()):
            published.append(service)
        if service in (*OURS, "migrations"):
            assert container["Config"]["User"] == "10001", service
            assert host["ReadonlyRootfs"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["Memory"] > 0, service
        assert host["CapDrop"] == ["ALL"], service
    assert published == ["gateway"]


@pytest.mark.parametrize(
    ("service", "reaches"),
    [
        ("storage-service", ["postgres"]),
        ("gateway", ["storage-service"]),
        ("agent-service", ["storage-service", "redis"]),
        ("agent-worker", ["storage-service", "redis"]),
        ("log-service", ["storage-service", "redis"]),
        ("inference-service", ["storage-service"]),
    ],
)
def test_only_those_reach_a_store_who_need_it(stack: Stack, service: str, reaches: list[str]) -> None:
    container = stack.containers(service)[0]
    reached = [
        host
        for host, port in PORTS.items()
        if host != service and stack.python(container, CONNECT.format(host=host, port=port)).startswith("reached")
    ]
    assert sorted(reached) == sorted(reaches)


async def test_work_spreads_over_replicas_and_goes_on_without_one(stack: Stack, client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 8})
    stack.up("--scale", "agent-worker=3", "--scale", "log-service=2", "--scale", "inference-service=2")

    async def spread() -> bool:
        """Whether each replica of both services has worked."""
        await all_complete(client, await runs(client, agent["id"], 12), seconds=120)
        chats = [
            float(stack.python(container, CALLS.format(port=50053, method="InferenceService/Chat")))
            for container in stack.containers("inference-service")
        ]
        return len(chats) == 2 and min(chats) > 0

    await eventually(spread, seconds=240, what="work at each replica of inference-service")
    tasks = await runs(client, agent["id"], 24)
    workers: set[str] = set()
    await all_complete(client, tasks, seconds=120)
    for task in tasks:
        attempts = (await client.http.get(f"/tasks/{task}/attempts")).json()["items"]
        workers.update(attempt["worker_id"].split("-")[0] for attempt in attempts)
    assert len(workers) == 3

    tasks = await runs(client, agent["id"], 24)
    killed = [stack.containers(service)[0] for service in ("agent-worker", "log-service", "inference-service")]
    run("docker", "kill", *killed)
    tasks += await runs(client, agent["id"], 6)
    await all_complete(client, tasks, seconds=180)
    for task in tasks:
        assert [event.event for event in await client.events(task)][-1] == "end"
