"""What a service needs to do its work, probed when somebody asks; and its metrics."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from loguru import logger
from prometheus_client import REGISTRY, generate_latest

from hearth_runtime.errors import HearthError

PROBE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """A named probe: it returns a detail to show, or raises. `advice` says what to do when it fails."""

    name: str
    probe: Callable[[], Awaitable[str]]
    advice: str
    required: bool = True


class RuntimeRpc(runtime_service_pb2_grpc.RuntimeServiceServicer):
    """What every service says of itself."""

    def __init__(self, dependencies: Sequence[Dependency]) -> None:
        self._dependencies = tuple(dependencies)

    async def CheckDependencies(self, request: Any, context: Any) -> runtime_service_pb2.CheckDependenciesResponse:
        checked = await asyncio.gather(*(_check(d) for d in self._dependencies))
        return runtime_service_pb2.CheckDependenciesResponse(dependencies=checked)

    async def GetMetrics(self, request: Any, context: Any) -> runtime_service_pb2.GetMetricsResponse:
        return runtime_service_pb2.GetMetricsResponse(text=generate_latest(REGISTRY).decode())


async def _check(dependency: Dependency) -> runtime_service_pb2.Dependency:
    started = time.perf_counter()
    healthy, detail = True, ""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            detail = await dependency.probe()
    except HearthError as error:
        healthy, detail = False, error.detail
    except Exception as error:  # noqa: BLE001 - whatever a client library raises means: not healthy
        logger.warning("a dependency is not healthy", dependency=dependency.name, error=repr(error))
        healthy, detail = False, dependency.advice
    return runtime_service_pb2.Dependency(
        name=dependency.name,
        healthy=healthy,
        latency_seconds=time.perf_counter() - started,
        detail=detail,
        required=dependency.required,
    )
