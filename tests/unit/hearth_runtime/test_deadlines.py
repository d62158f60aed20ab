"""A deadline goes from a call to all that is done for it, over any number of services, and to nothing else."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from hearth.agent.v1 import agent_service_pb2 as pb
from hearth.agent.v1 import agent_service_pb2_grpc
from hearth.log.v1 import log_service_pb2, log_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.deadlines import bounded, detached, within
from hearth_runtime.errors import DeadlineExceeded, Unavailable
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings

REQUEST = pb.GetAgentRequest(id="x")


class Inner(agent_service_pb2_grpc.AgentServiceServicer, log_service_pb2_grpc.LogServiceServicer):
    """The last service of the chain: notes how long it has."""

    def __init__(self) -> None:
        self.left: list[float | None] = []
        self.cancelled = asyncio.Event()

    async def GetAgent(self, request: Any, context: Any) -> pb.GetAgentResponse:  # noqa: N802
        self.left.append(context.time_remaining())
        if request.id == "slow":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return pb.GetAgentResponse()

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.left.append(context.time_remaining())
        yield log_service_pb2.StreamEventsResponse()


class Outer(agent_service_pb2_grpc.AgentServiceServicer, log_service_pb2_grpc.LogServiceServicer):
    """The service between: asks the last one."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.logs = log_service_pb2_grpc.LogServiceStub(channel)
        self.background: list[asyncio.Task[Any]] = []

    async def GetAgent(self, request: Any, context: Any) -> pb.GetAgentResponse:  # noqa: N802
        match request.id:
            case "stream":
                async for _ in self.logs.StreamEvents(log_service_pb2.StreamEventsRequest()):
                    pass
            case "detached":
                self.background.append(asyncio.create_task(self._ask(), context=detached()))
            case "short":
                await self.agents.GetAgent(request, timeout=0.5)
            case _:
                await self.agents.GetAgent(request)
        return pb.GetAgentResponse()

    async def _ask(self) -> None:
        await self.agents.GetAgent(REQUEST)

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield log_service_pb2.StreamEventsResponse()
        await self._ask()
        yield log_service_pb2.StreamEventsResponse()


class Chain:
    """Two services, of which the first asks the second, and a channel to the first."""

    def __init__(self, inner: Inner, outer: Outer, channel: grpc.aio.Channel) -> None:
        self.inner = inner
        self.outer = outer
        self.agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.logs = log_service_pb2_grpc.LogServiceStub(channel)

    async def left(self, agent_id: str, *, timeout: float | None) -> float | None:
        """How long the second service had, when the first was given so long."""
        self.inner.left.clear()
        await self.agents.GetAgent(pb.GetAgentRequest(id=agent_id), timeout=timeout)
        await asyncio.gather(*self.outer.background)
        return self.inner.left[0]


@asynccontextmanager
async def serving(settings: RuntimeSettings, servicer: Any) -> AsyncIterator[None]:
    """A server of both services."""
    server = Server(settings)
    server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, servicer, pb)
    server.register(log_service_pb2_grpc.add_LogServiceServicer_to_server, servicer, log_service_pb2)
    stopping = asyncio.Event()
    running = asyncio.create_task(server.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    folder = tempfile.mkdtemp(prefix="h")
    # What a call takes that has no deadline from outside is told from one that has.
    inner_settings, outer_settings = (
        RuntimeSettings(listen_address=f"unix:{folder}/{name}", grace_seconds=1, rpc_timeout_seconds=50)
        for name in ("i", "o")
    )
    inner = Inner()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(inner_settings, inner))
        between = await stack.enter_async_context(open_channel("inner", inner_settings.listen_address, inner_settings))
        outer = Outer(between)
        await stack.enter_async_context(serving(outer_settings, outer))
        channel = await stack.enter_async_context(open_channel("outer", outer_settings.listen_address, outer_settings))
        yield Chain(inner, outer, channel)
    shutil.rmtree(folder)


async def test_a_deadline_is_passed_on_less_the_answers_way_back(chain: Chain) -> None:
    left = await chain.left("x", timeout=8)
    assert left is not None
    assert 1 < left < 7.9
    left = await chain.left("x", timeout=1000)
    assert left is not None
    assert 40 < left < 51, "a call's own timeout counts where it is the shorter"


async def test_a_shorter_timeout_counts(chain: Chain) -> None:
    left = await chain.left("short", timeout=20)
    assert left is not None
    assert left < 0.55


async def test_a_stream_gets_what_remains_and_no_deadline_where_there_is_none(chain: Chain) -> None:
    left = await chain.left("stream", timeout=8)
    assert left is not None
    assert 1 < left < 7.9
    with within(30):
        async for _ in chain.logs.StreamEvents(log_service_pb2.StreamEventsRequest()):
            pass
    left = chain.inner.left[-1]
    assert left is not None
    assert 20 < left < 30, "the deadline of a stream bounds the calls that are made for it"
    async for _ in chain.logs.StreamEvents(log_service_pb2.StreamEventsRequest()):
        pass
    left = chain.inner.left[-1]
    assert left is not None
    assert 40 < left < 51


async def test_background_work_has_no_deadline_of_the_call_that_began_it(chain: Chain) -> None:
    left = await chain.left("detached", timeout=20)
    assert left is not None
    assert left > 40


async def test_the_last_service_stops_when_the_first_caller_gives_up(chain: Chain) -> None:
    chain.inner.cancelled.clear()
    # By the service between, whose answer is back in time: it names who is slow.
    with pytest.raises(Unavailable, match="The inner service does not answer"):
        await chain.agents.GetAgent(pb.GetAgentRequest(id="slow"), timeout=1)
    async with asyncio.timeout(10):
        await chain.inner.cancelled.wait()


async def test_a_call_whose_deadline_has_passed_is_not_begun(chain: Chain) -> None:
    chain.inner.left.clear()
    with within(0), pytest.raises(DeadlineExceeded):
        await chain.outer.agents.GetAgent(REQUEST)
    with within(0), pytest.raises(DeadlineExceeded):
        async for _ in chain.outer.logs.StreamEvents(log_service_pb2.StreamEventsRequest()):
            pass
    assert chain.inner.left == []


async def test_calls_do_not_share_their_deadlines(chain: Chain) -> None:
    await asyncio.gather(*(chain.agents.GetAgent(REQUEST, timeout=t) for t in (10, 20, 30)))
    assert await chain.left("x", timeout=40) is not None
    assert bounded(None) is None


def test_a_call_has_its_own_deadline_and_leaves_another_one_as_it_was() -> None:
    assert bounded(7) == 7
    with within(100):
        with within(1000):
            assert (bounded(None) or 0) > 900
        with within(None):
            assert bounded(None) is None
        with within(1):
            assert (bounded(None) or 0) < 1
        assert 50 < (bounded(None) or 0) < 100
        assert bounded(7) == 7
        assert detached().run(bounded, None) is None
    assert bounded(None) is None


def test_the_answers_way_back_is_short_and_shorter_where_time_is() -> None:
    with within(100):
        assert (bounded(None) or 0) > 99
    with within(0.1):
        started = time.monotonic()
        left = bounded(None)
        assert left is not None
        assert 0 < left < 0.1 * 0.96
        assert left > 0.1 * 0.94 - (time.monotonic() - started)


async def test_a_generator_that_is_closed_elsewhere_is_no_trouble() -> None:
    async def items() -> AsyncIterator[int]:
        with within(5):
            yield 1

    generator = items()
    assert await anext(generator) == 1
    # As the event loop does with a generator that nobody ended.
    await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
