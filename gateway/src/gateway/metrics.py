"""All processes' metrics as one text: each family once, its samples told apart by the label `service`."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hearth.runtime.v1 import runtime_service_pb2
from hearth_runtime.errors import HearthError
from loguru import logger
from prometheus_client import REGISTRY, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from hearth.runtime.v1.runtime_service_pb2_grpc import RuntimeServiceAsyncStub

OWN_NAME = "gateway"
LABEL = "service"


async def collect(runtimes: "Mapping[str, RuntimeServiceAsyncStub]", *, timeout_seconds: float) -> bytes:
    """The metrics in Prometheus' text format 0.0.4. A service that does not answer is left out and shown as down."""
    texts = dict(
        zip(runtimes, await asyncio.gather(*(_ask(s, timeout_seconds) for s in runtimes.values())), strict=True)
    )
    up = Metric("hearth_service_up", "Whether the service answered this scrape", "gauge")
    for service, text in texts.items():
        up.add_sample(up.name, {LABEL: service}, 0.0 if text is None else 1.0)
    texts[OWN_NAME] = generate_latest(REGISTRY).decode()
    return generate_latest(_Families([up, *_merged(texts)]))


async def _ask(stub: "RuntimeServiceAsyncStub", timeout_seconds: float) -> str | None:
    try:
        answer = await stub.GetMetrics(
            runtime_service_pb2.GetMetricsRequest(), timeout=timeout_seconds, wait_for_ready=False
        )
    except HearthError:
        return None
    return answer.text


def _merged(texts: Mapping[str, str | None]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    for service, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text or ""):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            if merged.type != family.type:
                logger.warning("a metric has two types", metric=family.name, service=service)
                continue
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**_relabelled(sample.labels), LABEL: service}))
    return families.values()


def _relabelled(labels: Mapping[str, str]) -> dict[str, str]:
    """As Prometheus does where a label of the target's own is in the way."""
    return {f"exported_{name}" if name == LABEL else name: value for name, value in labels.items()}


class _Families:
    """Families for `generate_latest`, which takes a registry."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
