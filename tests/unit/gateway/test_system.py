"""Health, metrics and where to look further."""

import math
import threading
from typing import Any

import pytest
from fakes.services import Probe, Services
from prometheus_client.parser import text_string_to_metric_families
from servers.gateway import World, open_world


async def samples(world: World) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The values of /metrics by name and labels."""
    answer = await world.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert len({f.name for f in families}) == len(families), "a family stands there twice"
    found = [((s.name, tuple(sorted(s.labels.items()))), s.value) for f in families for s in f.samples]
    assert len(dict(found)) == len(found), "a sample stands there twice"
    return dict(found)


async def test_all_is_well(world: World) -> None:
    answer = await world.http.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "ok"
    assert set(health["services"]) == {"agent", "inference", "log", "storage"}
    assert {s["status"] for s in health["services"].values()} == {"ok"}
    assert set(health["dependencies"]) == {"postgresql", "redis", "ollama", "workers"}
    redis = health["dependencies"]["redis"]
    assert redis["services"] == ["agent", "log"]
    assert redis["required"] is True
    assert redis["latency_ms"] >= 0


async def test_what_is_optional_degrades_and_what_is_required_is_503() -> None:
    async with open_world() as world:
        world.services.inference.probes["ollama"].healthy = False
        answer = await world.http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["services"]["inference"]["status"] == "degraded"
        assert answer.json()["dependencies"]["ollama"] == {
            "status": "unavailable",
            "required": False,
            "latency_ms": answer.json()["dependencies"]["ollama"]["latency_ms"],
            "detail": "Start ollama.",
            "services": ["inference"],
        }
        # Optional to the agent service, which alone is troubled.
        world.services.agent.probes["redis"].healthy = False
        answer = await world.http.get("/health")
        assert (answer.status_code, answer.json()["dependencies"]["redis"]["status"]) == (200, "unavailable")
        world.services.storage.probes["postgresql"].healthy = False
        answer = await world.http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")


async def test_one_model_host_of_several_that_is_left_alone_degrades() -> None:
    """inference-service then has a dependency for each, beside the one for all."""
    async with open_world() as world:
        two = Probe("ollama http://two", required=False)
        two.healthy = False
        inference = world.services.inference
        inference.probes[two.dependency.name] = two
        await inference.stop()
        await inference.start()
        answer = await world.http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["dependencies"]["ollama"]["status"] == "ok"
        assert answer.json()["dependencies"]["ollama http://two"]["status"] == "unavailable"
        assert answer.json()["services"]["inference"]["detail"] == "Not healthy: ollama http://two."


async def test_a_service_that_is_away_is_503_and_named_at_once() -> None:
    async with open_world() as world:
        await world.services.storage.stop()
        answer = await world.http.get("/health")
        assert answer.status_code == 503
        storage = answer.json()["services"]["storage"]
        assert storage["status"] == "unavailable"
        assert "HEARTH_STORAGE_ADDRESS" in storage["detail"]
        assert answer.json()["services"]["log"]["status"] == "ok"
        assert answer.elapsed.total_seconds() < world.settings.health_timeout_seconds
        assert (await world.http.get("/health/live")).json() == {"status": "ok"}
        metrics = await samples(world)
        assert metrics["hearth_service_up", (("service", "storage"),)] == 0
        assert metrics["hearth_service_up", (("service", "log"),)] == 1
        assert not any(("service", "storage") in labels for name, labels in metrics if name != "hearth_service_up")


async def test_metrics_are_those_of_all_processes_told_apart(world: World) -> None:
    await world.http.get("/agents")
    await world.http.get("/nowhere")
    metrics = await samples(world)
    for service in ("gateway", "agent", "inference", "log", "storage"):
        assert metrics["process_resident_memory_bytes", (("service", service),)] > 0
        assert any(name == "python_info" and ("service", service) in labels for name, labels in metrics)
    labels = (("method", "GET"), ("route", "/api/v1/agents"), ("service", "gateway"), ("status", "200"))
    assert metrics["hearth_http_requests_total", labels] >= 1
    labels = (("method", "GET"), ("route", "unknown"), ("service", "gateway"), ("status", "404"))
    assert metrics["hearth_http_requests_total", labels] >= 1
    bucket = (("le", "+Inf"), ("method", "GET"), ("route", "/api/v1/agents"), ("service", "gateway"))
    assert metrics["hearth_http_seconds_bucket", bucket] >= 1
    assert not any(math.isnan(value) for value in metrics.values())


async def test_metrics_have_the_workers_that_are_named_and_health_does_not() -> None:
    async with Services() as away, open_world() as elsewhere:
        present = elsewhere.services.agent.address
        await away.agent.stop()
        async with open_world(worker_addresses=f"{present}, {away.agent.address}") as world:
            metrics = await samples(world)
            assert metrics["process_resident_memory_bytes", (("service", "worker-1"),)] > 0
            assert metrics["hearth_service_up", (("service", "worker-1"),)] == 1
            assert metrics["hearth_service_up", (("service", "worker-2"),)] == 0
            health = (await world.http.get("/health")).json()
            assert health["status"] == "ok"
            assert set(health["services"]) == {"agent", "inference", "log", "storage"}


async def test_open_streams_are_counted(world: World) -> None:
    task = await world.state.add_task()
    key = "hearth_streams_open", (("service", "gateway"), ("transport", "sse"))
    async with world.stream(task.id):
        before = (await samples(world))[key]
    assert before >= 1


@pytest.mark.parametrize("path", ["/health", "/health/live", "/metrics", "/docs", "/openapi.json"])
async def test_these_answer_at_the_root_as_well(world: World, path: str) -> None:
    root = f"http://127.0.0.1:{world.port}"
    at_root, below = await world.http.get(root + path), await world.http.get(path)
    assert at_root.status_code == below.status_code == 200
    assert at_root.headers["content-type"] == below.headers["content-type"]


async def test_the_root_has_links_that_work(world: World) -> None:
    root = f"http://127.0.0.1:{world.port}"
    body: dict[str, Any] = (await world.http.get(f"{root}/")).json()
    assert body["name"] == "Hearth"
    for link in body["links"].values():
        assert (await world.http.get(root + link)).status_code == 200, link


async def test_no_request_is_taken_to_a_thread_and_back(world: World) -> None:
    for path in ("/agents", "/tasks", "/logs/history"):
        assert (await world.http.get(path)).status_code == 200
    assert [thread.name for thread in threading.enumerate() if "AnyIO" in thread.name] == []
