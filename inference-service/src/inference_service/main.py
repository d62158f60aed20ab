"""The process: models over gRPC."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import HearthError, ModelHostUnavailable
from hearth_runtime.lifecycle import run
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings

from inference_service.embedding import EmbeddingModels
from inference_service.generation import Generator
from inference_service.hosts import Host, Hosts
from inference_service.measures import ACTIVE, WAITING
from inference_service.output_schema import SchemaChecker
from inference_service.rpc import InferenceRpc
from inference_service.settings import InferenceSettings


async def serve(settings: InferenceSettings, stopping: asyncio.Event) -> None:
    """Runs the process until `stopping` is set."""
    async with AsyncExitStack() as stack:
        hosts = Hosts(settings)
        stack.push_async_callback(hosts.close)
        for host in hosts.all:
            ACTIVE.labels(host.name).set_function(partial(getattr, host.slots, "active"))
            WAITING.labels(host.name).set_function(partial(getattr, host.slots, "waiting"))
        checker = SchemaChecker(seconds=settings.model_schema_seconds)
        stack.push_async_callback(checker.close)
        server = Server(settings, dependencies=[_ollama_dependency(hosts)])
        server.register(
            inference_service_pb2_grpc.add_InferenceServiceServicer_to_server,
            InferenceRpc(Generator(hosts, checker, settings), EmbeddingModels(hosts, settings), hosts),
            inference_service_pb2,
        )
        await server.run(stopping)


def _ollama_dependency(hosts: Hosts) -> Dependency:
    async def state(host: Host) -> tuple[bool, str]:
        try:
            return True, f"{host.name} has {await host.version()}"
        except HearthError as error:
            return False, error.detail

    async def probe() -> str:
        states = await asyncio.gather(*(state(host) for host in hosts.all))
        detail = "; ".join(words for _, words in states)
        if not any(answers for answers, _ in states):
            raise ModelHostUnavailable(detail)
        return detail

    return Dependency(name="ollama", probe=probe, advice="Set OLLAMA_URL to a running Ollama.", required=False)


def main() -> None:
    """Runs the process."""
    settings = load_settings(InferenceSettings)
    run("inference", settings, lambda stopping: serve(settings, stopping))
