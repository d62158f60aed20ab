"""Server and channel together: errors arrive typed, waits are bounded, nothing internal leaks."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hearth.agent.v1 import agent_service_pb2, agent_service_pb2_grpc
from hearth.log.v1 import log_service_pb2, log_service_pb2_grpc
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import (
    AgentNotFound,
    FieldViolation,
    HearthError,
    InvalidArgument,
    QueueFull,
    Unavailable,
    Undone,
)
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    async def GetAgent(self, request: Any, context: Any) -> agent_service_pb2.GetAgentResponse:  # noqa: N802
        if request.id == "unknown":
            raise AgentNotFound("No agent unknown.", metadata={"agent_id": "unknown"})
        if request.id == "bad":
            raise InvalidArgument("Mend the id.", fields=[FieldViolation(field="id", message="not a UUID")])
        if request.id == "many":
            raise QueueFull("Come back.", retry_after_seconds=2.5)
        raise RuntimeError("password=secret")


class Logs(log_service_pb2_grpc.LogServiceServicer):
    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield log_service_pb2.StreamEventsResponse()
        raise AgentNotFound("gone")


class SlowLogs(log_service_pb2_grpc.LogServiceServicer):
    def __init__(self) -> None:
        self.peers: set[str] = set()
        self.ending = asyncio.Event()

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield log_service_pb2.StreamEventsResponse()
        await self.ending.wait()
        yield log_service_pb2.StreamEventsResponse()

    async def ListEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.peers.add(context.peer())
        return log_service_pb2.ListEventsResponse()


async def works() -> str:
    return "fine"


async def fails() -> str:
    raise OSError("secret")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
async def channel(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[grpc.aio.Channel]:
    folder: Path = tmp_path_factory.mktemp("rpc")
    settings = RuntimeSettings(listen_address=f"unix:{folder}/s", grace_seconds=1, rpc_timeout_seconds=5)
    server = Server(
        settings,
        dependencies=[
            Dependency(name="good", probe=works, advice=""),
            Dependency(name="bad", probe=fails, advice="Start it."),
        ],
    )
    server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, Agents(), agent_service_pb2)
    server.register(log_service_pb2_grpc.add_LogServiceServicer_to_server, Logs(), log_service_pb2)
    stopping = asyncio.Event()
    running = asyncio.create_task(server.run(stopping))
    async with open_channel("agent", settings.listen_address, settings) as opened:
        yield opened
    stopping.set()
    await running


async def test_an_error_keeps_its_type_detail_and_metadata(channel: grpc.aio.Channel) -> None:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    with pytest.raises(AgentNotFound, match="No agent unknown") as caught:
        await stub.GetAgent(agent_service_pb2.GetAgentRequest(id="unknown"))
    assert caught.value.metadata == {"agent_id": "unknown"}
    with pytest.raises(InvalidArgument) as invalid:
        await stub.GetAgent(agent_service_pb2.GetAgentRequest(id="bad"))
    assert invalid.value.fields == (FieldViolation(field="id", message="not a UUID"),)
    assert invalid.value.retry_after_seconds is None
    with pytest.raises(QueueFull) as full:
        await stub.GetAgent(agent_service_pb2.GetAgentRequest(id="many"))
    assert full.value.retry_after_seconds == 2.5


async def test_an_unexpected_error_shows_nothing_of_itself(channel: grpc.aio.Channel) -> None:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    with pytest.raises(HearthError, match="reference") as caught:
        await stub.GetAgent(agent_service_pb2.GetAgentRequest(id="x"))
    assert "secret" not in str(caught.value)


async def test_a_stream_ends_with_a_typed_error(channel: grpc.aio.Channel) -> None:
    stub = log_service_pb2_grpc.LogServiceStub(channel)
    call = aiter(stub.StreamEvents(log_service_pb2.StreamEventsRequest()))
    await anext(call)
    with pytest.raises(AgentNotFound, match="gone"):
        await anext(call)


async def test_health_and_dependencies(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    health = await stub.Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    answer = await runtime_service_pb2_grpc.RuntimeServiceStub(channel).CheckDependencies(
        runtime_service_pb2.CheckDependenciesRequest()
    )
    assert [(d.name, d.healthy, d.detail) for d in answer.dependencies] == [
        ("good", True, "fine"),
        ("bad", False, "Start it."),
    ]


async def test_reflection_names_every_service(channel: grpc.aio.Channel) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    untyped: Any = channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
    answer = await anext(aiter(stub.ServerReflectionInfo(requests())))
    assert {
        "grpc.health.v1.Health",
        "hearth.agent.v1.AgentService",
        "hearth.log.v1.LogService",
        "hearth.runtime.v1.RuntimeService",
    } <= {service.name for service in answer.list_services_response.service}


async def test_metrics_count_calls_by_their_status(channel: grpc.aio.Channel) -> None:
    stub = runtime_service_pb2_grpc.RuntimeServiceStub(channel)
    await stub.GetMetrics(runtime_service_pb2.GetMetricsRequest())
    text = (await stub.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text
    assert 'hearth_rpcs_total{code="OK",method="runtime.v1.RuntimeService/GetMetrics"}' in text
    assert 'hearth_rpcs_total{code="NOT_FOUND",method="agent.v1.AgentService/GetAgent"}' in text


async def test_a_service_that_is_away_is_waited_for_and_then_named(tmp_path: Path) -> None:
    settings = RuntimeSettings(rpc_timeout_seconds=0.3)
    async with open_channel("storage", f"unix:{tmp_path}/nobody", settings) as channel:
        with pytest.raises(Unavailable, match="The storage service does not answer"):
            await agent_service_pb2_grpc.AgentServiceStub(channel).GetAgent(agent_service_pb2.GetAgentRequest(id="x"))


async def test_connections_are_made_anew_and_nothing_under_way_notices(free_port: int) -> None:
    settings = RuntimeSettings(listen_address=f"127.0.0.1:{free_port}", grace_seconds=1, connection_age_seconds=0.1)
    server, logs, stopping = Server(settings), SlowLogs(), asyncio.Event()
    server.register(log_service_pb2_grpc.add_LogServiceServicer_to_server, logs, log_service_pb2)
    running = asyncio.create_task(server.run(stopping))
    async with open_channel("log", f"dns:///{settings.listen_address}", settings) as channel:
        stub = log_service_pb2_grpc.LogServiceStub(channel)
        stream = aiter(stub.StreamEvents(log_service_pb2.StreamEventsRequest()))
        await anext(stream)
        async with asyncio.timeout(20):
            while len(logs.peers) < 3:
                await stub.ListEvents(log_service_pb2.ListEventsRequest())
        logs.ending.set()
        await anext(stream)
        assert [message async for message in stream] == []
    stopping.set()
    await running


async def test_the_probe_tells_by_its_exit_whether_a_process_is_well(tmp_path: Path) -> None:
    settings = RuntimeSettings(listen_address=f"unix:{tmp_path}/s", grace_seconds=1)
    stopping = asyncio.Event()
    running = asyncio.create_task(Server(settings).run(stopping))

    async def probe(**env: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hearth_runtime.probe", env=os.environ | env, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        return process.returncode, errors.decode().strip()

    assert await probe(HEARTH_LISTEN_ADDRESS=settings.listen_address) == (0, "")
    stopping.set()
    await running
    code, line = await probe(HEARTH_LISTEN_ADDRESS=settings.listen_address)
    assert code == 1
    assert line.endswith("/s does not answer: DEADLINE_EXCEEDED")


async def test_a_call_that_was_undone_is_made_once_more(tmp_path: Path) -> None:
    class Shaky(agent_service_pb2_grpc.AgentServiceServicer):
        failures = 1

        async def DeleteAgent(self, request: Any, context: Any) -> agent_service_pb2.DeleteAgentResponse:  # noqa: N802
            if self.failures > 0:
                self.failures -= 1
                raise Undone("It was undone.")
            return agent_service_pb2.DeleteAgentResponse()

    settings = RuntimeSettings(listen_address=f"unix:{tmp_path}/s", grace_seconds=1)
    servicer = Shaky()
    server = Server(settings)
    server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, servicer, agent_service_pb2)
    stopping = asyncio.Event()
    running = asyncio.create_task(server.run(stopping))
    async with open_channel("agent", settings.listen_address, settings) as channel:
        stub: Any = agent_service_pb2_grpc.AgentServiceStub(channel)
        await stub.DeleteAgent(agent_service_pb2.DeleteAgentRequest(id="a"))
        servicer.failures = 2
        with pytest.raises(Unavailable, match="It was undone"):
            await stub.DeleteAgent(agent_service_pb2.DeleteAgentRequest(id="a"))
    stopping.set()
    await running
