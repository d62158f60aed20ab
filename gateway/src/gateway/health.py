"""How the services are, and what they need: each is asked at the same time, with a short deadline."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hearth.runtime.v1 import runtime_service_pb2
from hearth_runtime.errors import HearthError

from gateway.schemas.system import DependencyHealth, Health, ServiceHealth

if TYPE_CHECKING:
    from hearth.runtime.v1.runtime_service_pb2_grpc import RuntimeServiceAsyncStub


@dataclass(frozen=True, kw_only=True)
class _Report:
    service: str
    reachable: bool
    latency_seconds: float
    detail: str
    dependencies: Sequence[runtime_service_pb2.Dependency]


async def check(runtimes: "Mapping[str, RuntimeServiceAsyncStub]", *, timeout_seconds: float) -> Health:
    """The health of the whole system, within about `timeout_seconds`."""
    reports = await asyncio.gather(*(_ask(name, stub, timeout_seconds) for name, stub in runtimes.items()))
    dependencies = _merged(reports)
    away = any(not r.reachable for r in reports)
    failing = [d for r in reports for d in r.dependencies if not d.healthy]
    status: Literal["ok", "degraded", "unavailable"] = "degraded" if failing else "ok"
    if away or any(d.required for d in failing):
        status = "unavailable"
    return Health(
        status=status,
        services={r.service: _service(r) for r in sorted(reports, key=lambda r: r.service)},
        dependencies=dict(sorted(dependencies.items())),
    )


async def _ask(service: str, stub: "RuntimeServiceAsyncStub", timeout_seconds: float) -> _Report:
    started = time.perf_counter()
    detail, reachable, dependencies = "", True, []
    try:
        answer = await stub.CheckDependencies(
            runtime_service_pb2.CheckDependenciesRequest(), timeout=timeout_seconds, wait_for_ready=False
        )
        dependencies = list(answer.dependencies)
    except HearthError:
        reachable = False
        detail = f"It does not answer: check that it runs and that HEARTH_{service.upper()}_ADDRESS names it."
    seconds = time.perf_counter() - started
    return _Report(
        service=service, reachable=reachable, latency_seconds=seconds, detail=detail, dependencies=dependencies
    )


def _service(report: _Report) -> ServiceHealth:
    failing = [d.name for d in report.dependencies if not d.healthy]
    status: Literal["ok", "degraded", "unavailable"] = "degraded" if failing else "ok"
    return ServiceHealth(
        status=status if report.reachable else "unavailable",
        latency_ms=_milliseconds(report.latency_seconds),
        detail=f"Not healthy: {', '.join(failing)}." if failing else report.detail,
    )


def _merged(reports: Sequence[_Report]) -> dict[str, DependencyHealth]:
    """Each dependency once, as the service sees it that it troubles most."""
    views: dict[str, list[tuple[str, runtime_service_pb2.Dependency]]] = {}
    for report in reports:
        for dependency in report.dependencies:
            views.setdefault(dependency.name, []).append((report.service, dependency))
    merged: dict[str, DependencyHealth] = {}
    for name, seen in views.items():
        _, worst = max(seen, key=lambda view: (not view[1].healthy, view[1].required))
        merged[name] = DependencyHealth(
            status="ok" if worst.healthy else "unavailable",
            required=any(d.required for _, d in seen),
            latency_ms=_milliseconds(worst.latency_seconds),
            detail=worst.detail,
            services=sorted(service for service, _ in seen),
        )
    return merged


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
