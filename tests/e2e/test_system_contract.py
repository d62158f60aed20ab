"""Models, health, metrics and the documents that describe the rest."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from system.client import MODEL, Client
from system.instance import Instance
from system.waiting import eventually


async def test_models_with_their_capabilities(client: Client) -> None:
    answer = await client.http.get("/models")
    assert answer.status_code == 200
    models = {m["name"]: m for m in answer.json()["items"]}
    assert "completion" in models[MODEL]["capabilities"]
    assert models["multilingual-e5-small:latest"]["capabilities"] == ["embedding"]


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_health_names_services_and_stores(hearth: Instance, client: Client, prefix: str) -> None:
    answer = await client.http.get(f"{hearth.url}{prefix}/health")
    assert answer.status_code == 200, answer.text
    health = answer.json()
    assert health["status"] == "ok"
    assert set(health["services"]) == {"agent", "inference", "log", "storage"}
    assert {"postgresql", "redis", "ollama", "workers"} <= set(health["dependencies"])
    assert "2" in health["dependencies"]["workers"]["detail"]
    for part in (*health["services"].values(), *health["dependencies"].values()):
        assert part["status"] == "ok"
        assert part["latency_ms"] >= 0
    assert (await client.http.get(f"{hearth.url}{prefix}/health/live")).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_metrics_of_all_services_in_one_text(hearth: Instance, client: Client, prefix: str) -> None:
    agent = await client.create_agent(config={"max_tokens": 4})
    await client.wait(await client.run(agent["id"]))
    answer = await client.http.get(f"{hearth.url}{prefix}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert len(families) == sum(1 for line in answer.text.splitlines() if line.startswith("# TYPE"))
    for name in (
        "hearth_http_requests",
        "hearth_rpcs",
        "hearth_tasks",
        "hearth_queue_oldest_seconds",
        "hearth_model_first_token_seconds",
        "hearth_model_tokens_per_second",
        "hearth_event_lag_seconds",
        "hearth_stream_subscribers",
        "hearth_service_up",
    ):
        assert families[name].samples, name
    services = {"agent", "inference", "log", "storage", "worker-1", "worker-2"}
    assert {s.labels["service"]: s.value for s in families["hearth_service_up"].samples} == dict.fromkeys(services, 1.0)
    assert {s.labels["service"] for s in families["hearth_rpcs"].samples} >= {"agent", "inference", "log", "storage"}


async def test_workers_count_what_each_agent_uses(hearth: Instance, client: Client) -> None:
    agent = await client.create_agent(name="counted", config={"max_tokens": 4})
    task = await client.wait(await client.run(agent["id"]))

    async def counted() -> dict[tuple[str, str], float]:
        """What the workers counted for the agent, by metric and direction or outcome."""
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families((await client.http.get("/metrics")).text):
            for sample in family.samples:
                if sample.labels.get("agent") == agent["id"] and sample.name.endswith("_total"):
                    assert sample.labels["service"] in {"worker-1", "worker-2"}
                    assert sample.labels["name"] == "counted"
                    how = sample.labels.get("direction") or sample.labels["outcome"]
                    found[sample.name, how] = found.get((sample.name, how), 0) + sample.value
        return found

    async def is_whole() -> bool:
        return ("hearth_agent_attempts_total", "completed") in await counted()

    await eventually(is_whole, what="the attempt in the metrics")
    usage = task["output"]["usage"]
    assert await counted() == {
        ("hearth_agent_attempts_total", "completed"): 1,
        ("hearth_agent_tokens_total", "input"): usage["prompt_tokens"],
        ("hearth_agent_tokens_total", "output"): usage["completion_tokens"],
    }


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/api/v1/docs", "/api/v1/openapi.json"])
async def test_documents(hearth: Instance, client: Client, path: str) -> None:
    assert (await client.http.get(f"{hearth.url}{path}")).status_code == 200


async def test_every_call_has_examples_for_success_and_errors(hearth: Instance, client: Client) -> None:
    document = (await client.http.get(f"{hearth.url}/openapi.json")).json()
    assert len(document["paths"]) >= 12
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media, content in response.get("content", {}).items():
                    where = f"{method} {path} {status} {media}"
                    assert content.get("example") or content.get("examples"), where


async def test_the_operators_command_finds_its_home(hearth: Instance) -> None:
    answer = await asyncio.to_thread(
        subprocess.run,
        [str(Path(sys.executable).parent / "hearth-admin"), "dead", "list"],
        env={"HEARTH_HOME": str(hearth.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "There are no dead letters.\n", "")
