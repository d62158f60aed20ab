"""The process: models over gRPC."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import HearthError, ModelHostUnavailable
from hearth_runtime.lifecycle import run
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings

from inference_service.breaker import State
from inference_service.embedding import EmbeddingModels
from inference_service.generation import Generator
from inference_service.hosts import Host, Hosts
from inference_service.measures import ACTIVE, BREAKER_STATE, WAITING
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
            BREAKER_STATE.labels(host.name).set_function(partial(_breaker_state, host))
        checker = SchemaChecker(seconds=settings.model_schema_seconds)
        stack.push_async_callback(checker.close)
        server = Server(settings, dependencies=_ollama_dependencies(hosts))
        server.register(
            inference_service_pb2_grpc.add_InferenceServiceServicer_to_server,
            InferenceRpc(Generator(hosts, checker, settings), EmbeddingModels(hosts, settings), hosts),
            inference_service_pb2,
        )
        await server.run(stopping)


def _breaker_state(host: Host) -> int:
    return list(State).index(host.breaker.state)


def _ollama_dependencies(hosts: Hosts) -> list[Dependency]:
    """Model hosts as one dependency, which is healthy while any is; where there are several, each by itself as well."""

    async def state(host: Host) -> tuple[bool, str]:
        if not host.is_usable:
            return False, host.breaker.refusal().detail
        try:
            words = f"{host.name} has {await host.version()}"
        except HearthError as error:
            return False, error.detail
        if host.breaker.state is State.HALF_OPEN:
            words = f"{words}; it failed before, and its next request is the trial: {host.breaker.report().reason}"
        return True, words

    async def probe(asked: Sequence[Host]) -> str:
        states = await asyncio.gather(*(state(host) for host in asked))
        detail = "; ".join(
            f"{words} (breaker {host.breaker.state})" for host, (_, words) in zip(asked, states, strict=True)
        )
        if not any(answers for answers, _ in states):
            raise ModelHostUnavailable(detail)
        return detail

    several = hosts.all if len(hosts.all) > 1 else ()
    return [
        Dependency(
            name=name,
            probe=partial(probe, asked),
            advice="Set OLLAMA_URL to a running Ollama.",
            required=False,
        )
        for name, asked in [("ollama", hosts.all), *((f"ollama {host.name}", (host,)) for host in several)]
    ]


def main() -> None:
    """Runs the process."""
    settings = load_settings(InferenceSettings)
    run("inference", settings, lambda stopping: serve(settings, stopping))
