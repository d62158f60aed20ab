"""A service that stops and comes back fails no call that may be repeated."""

import asyncio
import importlib
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hearth.agent.v1 import agent_service_pb2 as pb
from hearth.agent.v1 import agent_service_pb2_grpc
from hearth.log.v1 import log_service_pb2, log_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import Cancelled, HearthError, Unavailable
from hearth_runtime.repeats import REPEATABLE
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings

SERVICES = [
    "agent.v1.agent_service",
    "agent.v1.document_service",
    "agent.v1.history_service",
    "agent.v1.key_service",
    "agent.v1.memory_service",
    "agent.v1.session_service",
    "agent.v1.task_service",
    "agent.v1.tool_service",
    "inference.v1.inference_service",
    "log.v1.log_service",
    "storage.v1.agent_store",
    "storage.v1.checkpoint_store",
    "storage.v1.chunk_store",
    "storage.v1.document_store",
    "storage.v1.event_store",
    "storage.v1.history_store",
    "storage.v1.key_store",
    "storage.v1.memory_store",
    "storage.v1.request_store",
    "storage.v1.session_store",
    "storage.v1.task_store",
    "storage.v1.tool_store",
]


class Rpc(agent_service_pb2_grpc.AgentServiceServicer, log_service_pb2_grpc.LogServiceServicer):
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def GetAgent(self, request: Any, context: Any) -> pb.GetAgentResponse:  # noqa: N802
        self.calls["GetAgent"] += 1
        if request.id == "away":
            raise Unavailable("PostgreSQL does not answer.")
        if request.id == "cut":
            raise Cancelled
        await asyncio.sleep(0.002)
        return pb.GetAgentResponse()

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await asyncio.sleep(0.002)
        yield log_service_pb2.StreamEventsResponse()


class Restarting:
    """A service that can be stopped and started on one socket."""

    def __init__(self) -> None:
        self.rpc = Rpc()
        self._folder = tempfile.mkdtemp(prefix="h")
        self.settings = RuntimeSettings(
            listen_address=f"unix:{self._folder}/s", grace_seconds=2, rpc_timeout_seconds=20
        )
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        server = Server(self.settings)
        server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, self.rpc, pb)
        server.register(log_service_pb2_grpc.add_LogServiceServicer_to_server, self.rpc, log_service_pb2)
        self._stopping = asyncio.Event()
        self._running = asyncio.create_task(server.run(self._stopping))

    async def stop(self) -> None:
        self._stopping.set()
        if self._running is not None:
            await self._running

    async def remove(self) -> None:
        await self.stop()
        shutil.rmtree(self._folder)


@pytest.fixture
async def service() -> AsyncIterator[Restarting]:
    restarting = Restarting()
    restarting.start()
    yield restarting
    await restarting.remove()


async def test_a_restart_fails_none_of_the_calls_that_run_meanwhile(service: Restarting) -> None:
    done: Counter[str] = Counter()
    stopping = asyncio.Event()
    async with open_channel("agent", service.settings.listen_address, service.settings) as channel:
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        logs = log_service_pb2_grpc.LogServiceStub(channel)

        async def read() -> None:
            while not stopping.is_set():
                await agents.GetAgent(pb.GetAgentRequest(id="x"))
                done["reads"] += 1

        async def watch() -> None:
            while not stopping.is_set():
                async for _ in logs.StreamEvents(log_service_pb2.StreamEventsRequest()):
                    done["streams"] += 1

        users = [asyncio.create_task(use()) for use in (*[read] * 100, *[watch] * 100)]
        try:
            for _ in range(4):
                before = done.copy()
                async with asyncio.timeout(20):
                    while done["reads"] < before["reads"] + 200 or done["streams"] < before["streams"] + 200:
                        await agents.GetAgent(pb.GetAgentRequest(id="x"))
                await service.stop()
                service.start()
        finally:
            stopping.set()
            results = await asyncio.gather(*users, return_exceptions=True)
    assert Counter(repr(r) for r in results if r is not None) == {}


@pytest.mark.parametrize(("agent_id", "error"), [("away", Unavailable), ("cut", Cancelled)])
async def test_what_the_service_itself_answers_is_not_asked_again(
    service: Restarting, agent_id: str, error: type[HearthError]
) -> None:
    async with open_channel("agent", service.settings.listen_address, service.settings) as channel:
        with pytest.raises(error):
            await agent_service_pb2_grpc.AgentServiceStub(channel).GetAgent(pb.GetAgentRequest(id=agent_id))
    assert service.rpc.calls["GetAgent"] == 1


async def test_a_call_that_is_cancelled_is_not_repeated(service: Restarting) -> None:
    async with open_channel("agent", service.settings.listen_address, service.settings) as channel:
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        call = asyncio.ensure_future(stub.GetAgent(pb.GetAgentRequest(id="x")))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def rpcs() -> Iterator[tuple[str, str]]:
    """Every RPC of the services: the service's full name, and its own."""
    for name in SERVICES:
        module = importlib.import_module(f"hearth.{name}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield service.full_name, method.name


def test_every_read_is_repeatable_and_every_name_is_an_rpc() -> None:
    known = set(rpcs())
    repeatable = {(service, method) for service, methods in REPEATABLE.items() for method in methods}
    assert repeatable <= known
    assert {rpc for rpc in known if rpc[1].startswith(("Get", "List"))} <= repeatable


def test_what_must_not_be_done_twice_is_not_repeated() -> None:
    repeatable = {method for methods in REPEATABLE.values() for method in methods}
    assert not repeatable & {"CreateAgent", "ClaimTask", "TakeDueTasks", "RetryTask"}


def test_the_journal_of_tool_calls_is_written_again() -> None:
    # Else a call that is not repeatable counts as cut off, though nobody came to make it, or its result was there.
    assert {"BeginToolCall", "FinishToolCall"} <= set(REPEATABLE["hearth.storage.v1.CheckpointStoreService"])
