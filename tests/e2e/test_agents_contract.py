"""The agents' rows of the public contract."""

import uuid
from typing import Any

import pytest
from system.client import Client

FIELDS = {"id", "name", "description", "model_name", "config", "created_at", "updated_at", "is_active"}
NOWHERE = "01900000-0000-7000-8000-000000000000"


async def test_an_agent_is_made_read_replaced_and_deleted(client: Client) -> None:
    config = {"system_prompt": "You are brief.", "temperature": 0.5, "seed": 7, "stop": ["\n\n"], "max_retries": 1}
    made = await client.http.post(
        "/agents/create", json={"name": "a", "description": "d", "model_name": "smollm2:135m", "config": config}
    )
    assert made.status_code == 201
    agent = made.json()
    assert set(agent) == FIELDS
    assert uuid.UUID(agent["id"]).version == 7
    assert made.headers["location"] == f"/api/v1/agents/{agent['id']}"
    assert agent["created_at"].endswith("Z")
    assert agent["is_active"] is True
    assert {k: v for k, v in agent["config"].items() if k in config} == config

    url = f"/agents/{agent['id']}"
    assert (await client.http.get(url)).json() == agent

    put = await client.http.put(url, json={"name": "b", "model_name": "other:1b"})
    assert put.status_code == 200
    assert (put.json()["name"], put.json()["model_name"]) == ("b", "other:1b")
    assert put.json()["created_at"] == agent["created_at"]
    assert put.json()["updated_at"] > agent["updated_at"]

    assert (await client.http.delete(url)).status_code == 204
    assert (await client.http.delete(url)).status_code == 204
    assert (await client.http.get(url)).json()["is_active"] is False


async def test_a_deleted_agent_keeps_its_tasks_and_takes_no_new_ones(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 4})
    task_id = await client.run(agent["id"])
    await client.wait(task_id)
    await client.http.delete(f"/agents/{agent['id']}")
    refused = await client.http.post("/agents/run", json={"agent_id": agent["id"], "input": {"prompt": "x"}})
    assert refused.status_code == 409
    assert refused.json()["code"] == "agent_inactive"
    assert (await client.task(task_id))["status"] == "completed"
    assert await client.told(task_id)


async def test_lists_are_paged_and_filtered(client: Client) -> None:
    mark = uuid.uuid4().hex
    made = [await client.create_agent(name=f"{mark} {n}") for n in range(5)]
    await client.http.delete(f"/agents/{made[0]['id']}")
    listed = await client.all_pages("/agents", name=mark.upper(), limit=2)
    assert [a["id"] for a in listed] == [a["id"] for a in reversed(made)]
    active = await client.all_pages("/agents", name=mark, is_active="true", limit=500)
    assert [a["id"] for a in active] == [a["id"] for a in reversed(made[1:])]
    assert [a["id"] for a in await client.all_pages("/agents", name=mark, is_active="false")] == [made[0]["id"]]
    assert await client.all_pages("/agents", name=f"{mark} %") == []


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"model_name": "m"}, "name", "required"),
        ({"name": "", "model_name": "m"}, "name", "1"),
        ({"name": "a" * 201, "model_name": "m"}, "name", "200"),
        ({"name": "a", "model_name": "m", "modle_name": "m"}, "modle_name", "model_name"),
        ({"name": "a", "model_name": "m", "config": {"temprature": 1}}, "config.temprature", "temperature"),
        ({"name": "a", "model_name": "m", "config": {"temperature": 9}}, "config.temperature", "2"),
        ({"name": "a", "model_name": "m", "config": {"max_tokens": 0}}, "config.max_tokens", "1"),
        ({"name": "a", "model_name": "m", "config": {"output_schema": {"type": 7}}}, "config.output_schema", "schema"),
        ({"name": "a\u0000", "model_name": "m"}, "name", "NUL"),
    ],
)
async def test_what_is_wrong_is_named(client: Client, body: dict[str, Any], field: str, words: str) -> None:
    answer = await client.http.post("/agents/create", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail", "instance", "code", "errors"}
    found = {e["field"]: e["message"] for e in problem["errors"]}
    assert field in found, found
    assert words.lower() in found[field].lower()


@pytest.mark.parametrize("agent_id", [NOWHERE, "not-a-uuid", "%00"])
async def test_an_unknown_agent_is_404(client: Client, agent_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await client.http.request(method, f"/agents/{agent_id}")
        assert answer.status_code in (404, 422), answer.text
        assert answer.json()["status"] == answer.status_code


async def test_bodies_out_of_bounds_are_named(client: Client) -> None:
    large = await client.http.post(
        "/agents/create", content=b" " * (1024 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert large.status_code == 413
    assert "1048576 bytes" in large.json()["detail"]

    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65536

    chunked = await client.http.post("/agents/create", content=endless(), headers={"content-type": "application/json"})
    assert chunked.status_code == 413
    broken = await client.http.post("/agents/create", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    other = await client.http.post("/agents/create", content=b"a=b", headers={"content-type": "text/plain"})
    assert other.status_code == 415
    page = await client.http.get("/agents", params={"limit": 501})
    assert page.status_code == 422
    assert "500" in page.text
    cursor = await client.http.get("/agents", params={"cursor": "garbage"})
    assert cursor.status_code == 422
    assert "cursor" in cursor.text
    assert (await client.http.get("/nothing")).json()["code"] == "route_not_found"
    wrong = await client.http.post("/agents")
    assert wrong.status_code == 405
    assert "GET" in wrong.headers["allow"]
