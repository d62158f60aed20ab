"""The services that the gateway asks, and how a route gets at them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends
from fastapi.requests import HTTPConnection
from hearth.agent.v1 import (
    agent_service_pb2_grpc,
    document_service_pb2_grpc,
    history_service_pb2_grpc,
    key_service_pb2_grpc,
    memory_service_pb2_grpc,
    session_service_pb2_grpc,
    task_service_pb2_grpc,
    tool_service_pb2_grpc,
)
from hearth.inference.v1 import inference_service_pb2_grpc
from hearth.log.v1 import log_service_pb2_grpc
from hearth.runtime.v1 import runtime_service_pb2_grpc
from hearth_runtime.channels import open_channel

from gateway.audit import Audit
from gateway.callers import Callers
from gateway.links import Links
from gateway.settings import GatewaySettings
from gateway.streams import Streams

if TYPE_CHECKING:
    from hearth.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from hearth.agent.v1.document_service_pb2_grpc import DocumentServiceAsyncStub
    from hearth.agent.v1.history_service_pb2_grpc import HistoryServiceAsyncStub
    from hearth.agent.v1.key_service_pb2_grpc import KeyServiceAsyncStub
    from hearth.agent.v1.memory_service_pb2_grpc import MemoryServiceAsyncStub
    from hearth.agent.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from hearth.agent.v1.task_service_pb2_grpc import TaskServiceAsyncStub
    from hearth.agent.v1.tool_service_pb2_grpc import ToolServiceAsyncStub
    from hearth.inference.v1.inference_service_pb2_grpc import InferenceServiceAsyncStub
    from hearth.log.v1.log_service_pb2_grpc import LogServiceAsyncStub
    from hearth.runtime.v1.runtime_service_pb2_grpc import RuntimeServiceAsyncStub


@dataclass(frozen=True, kw_only=True)
class Services:
    """A stub of each service; `runtimes` by the services' names, for their health and metrics.

    `workers` are asked for metrics alone: how they are is agent-service's to tell, which sees all there are.
    """

    agents: "AgentServiceAsyncStub"
    tasks: "TaskServiceAsyncStub"
    documents: "DocumentServiceAsyncStub"
    histories: "HistoryServiceAsyncStub"
    sessions: "SessionServiceAsyncStub"
    memories: "MemoryServiceAsyncStub"
    tools: "ToolServiceAsyncStub"
    keys: "KeyServiceAsyncStub"
    logs: "LogServiceAsyncStub"
    inference: "InferenceServiceAsyncStub"
    runtimes: "Mapping[str, RuntimeServiceAsyncStub]"
    workers: "Mapping[str, RuntimeServiceAsyncStub]"


@asynccontextmanager
async def connect(settings: GatewaySettings) -> AsyncIterator[Services]:
    """The services at the settings' addresses. None of them needs to be there yet."""
    addresses = {
        "agent": settings.agent_address,
        "inference": settings.inference_address,
        "log": settings.log_address,
        "storage": settings.storage_address,
    }
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(open_channel(name, address, settings))
            for name, address in (addresses | settings.workers).items()
        }
        runtimes = {name: runtime_service_pb2_grpc.RuntimeServiceStub(channel) for name, channel in channels.items()}
        yield Services(
            agents=agent_service_pb2_grpc.AgentServiceStub(channels["agent"]),
            tasks=task_service_pb2_grpc.TaskServiceStub(channels["agent"]),
            documents=document_service_pb2_grpc.DocumentServiceStub(channels["agent"]),
            memories=memory_service_pb2_grpc.MemoryServiceStub(channels["agent"]),
            histories=history_service_pb2_grpc.HistoryServiceStub(channels["agent"]),
            sessions=session_service_pb2_grpc.SessionServiceStub(channels["agent"]),
            tools=tool_service_pb2_grpc.ToolServiceStub(channels["agent"]),
            keys=key_service_pb2_grpc.KeyServiceStub(channels["agent"]),
            logs=log_service_pb2_grpc.LogServiceStub(channels["log"]),
            inference=inference_service_pb2_grpc.InferenceServiceStub(channels["inference"]),
            runtimes={name: runtimes[name] for name in addresses},
            workers={name: runtimes[name] for name in settings.workers},
        )


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What the routes of one application share; it is `app.state.gateway`."""

    settings: GatewaySettings
    services: Services
    streams: Streams
    callers: Callers
    audit: Audit


# Each is a coroutine: FastAPI takes a plain function to a thread and back for every request.
async def _gateway(connection: HTTPConnection) -> Gateway:
    return cast(Gateway, connection.app.state.gateway)


async def _services(connection: HTTPConnection) -> Services:
    return (await _gateway(connection)).services


async def _links(connection: HTTPConnection) -> Links:
    return Links(trace_url=(await _gateway(connection)).settings.trace_url)


GatewayDep = Annotated[Gateway, Depends(_gateway)]
ServicesDep = Annotated[Services, Depends(_services)]
LinksDep = Annotated[Links, Depends(_links)]
