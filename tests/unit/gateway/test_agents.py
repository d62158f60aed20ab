"""Agents: made, read, replaced, deleted and run."""

from typing import Any

import pytest
from hearth_runtime.identifiers import is_id, new_id
from servers.gateway import World

FULL_CONFIG = {
    "system_prompt": "You are brief.",
    "temperature": 0.5,
    "top_p": 1.0,
    "seed": -7,
    "max_tokens": 100,
    "stop": ["\n\n", "END"],
    "context_tokens": 4096,
    "timeout_seconds": 30.0,
    "max_retries": 0,
    "fallback_models": ["llama3.2:1b", "hf.co/x/y:Q4_K_M"],
    "output_schema": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**30}}},
    "keep_alive": "1h30m",
}


async def create(world: World, **fields: Any) -> Any:
    """The answer to a new agent with these fields."""
    return await world.http.post("/agents/create", json={"name": "helper", "model_name": "smollm2:135m", **fields})


async def test_an_agent_is_made_and_read_with_exactly_the_config_that_was_sent(world: World) -> None:
    answer = await create(world, description="Déjà vu", config=FULL_CONFIG)
    assert answer.status_code == 201
    agent = answer.json()
    assert answer.headers["location"] == f"/api/v1/agents/{agent['id']}"
    assert set(agent) == {
        "id", "name", "description", "model_name", "config", "created_at", "updated_at", "is_active"
    }  # fmt: skip
    assert is_id(agent["id"])
    assert agent["created_at"].endswith("Z")
    assert agent["config"] == FULL_CONFIG
    assert agent["description"] == "Déjà vu"
    assert agent["is_active"] is True
    assert (await world.http.get(f"/agents/{agent['id']}")).json() == agent
    assert (await world.http.get(f"/agents/{agent['id'].upper()}")).json() == agent


async def test_a_whole_number_is_an_integer_however_it_is_written(world: World) -> None:
    agent = (await create(world, config={"seed": 7.0, "max_tokens": 5e2, "max_retries": 0.0})).json()
    assert agent["config"] == {"seed": 7, "max_tokens": 500, "max_retries": 0}
    answer = await create(world, config={"seed": 7.5})
    assert answer.json()["errors"][0]["field"] == "config.seed"


async def test_what_is_left_out_stays_out(world: World) -> None:
    agent = (await create(world, config={"temperature": None})).json()
    assert agent["config"] == {}
    assert agent["description"] == ""


async def test_a_client_tool_keeps_a_description_that_is_empty(world: World) -> None:
    tool = {"type": "client", "name": "look_up", "description": "", "parameters": {"type": "object"}}
    agent = (await create(world, config={"tools": [tool]})).json()
    assert agent["config"] == {"tools": [tool]}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("5m", "5m"), ("0", "0"), (0, "0"), ("-1", "-1"), (-1, "-1"), (300, "300s"), ("300", "300s"), (1.5, "1.5s")],
)
async def test_how_long_a_model_stays_loaded_is_a_duration(world: World, sent: object, shown: str) -> None:
    assert (await create(world, config={"keep_alive": sent})).json()["config"] == {"keep_alive": shown}


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"name": "a\x00b"}, "name", "NUL"),
        ({"name": 5}, "name", "string"),
        ({"description": "x" * 4001}, "description", "at most 4000"),
        ({"model_name": "a b"}, "model_name", "pattern"),
        ({"model_name": "../x"}, "model_name", "pattern"),
        ({"modle_name": "x"}, "modle_name", "did you mean `model_name`?"),
        ({"config": {"temprature": 1}}, "config.temprature", "did you mean `temperature`?"),
        ({"config": {"zzzzzz": 1}}, "config.zzzzzz", "there are: "),
        ({"config": {"temperature": 2.1}}, "config.temperature", "less than or equal to 2"),
        ({"config": {"temperature": "1"}}, "config.temperature", "number"),
        ({"config": {"top_p": -0.1}}, "config.top_p", "greater than or equal to 0"),
        ({"config": {"seed": 2**31}}, "config.seed", "less than"),
        ({"config": {"max_tokens": 0}}, "config.max_tokens", "greater than or equal to 1"),
        ({"config": {"max_tokens": True}}, "config.max_tokens", "integer"),
        ({"config": {"max_tokens": 131073}}, "config.max_tokens", "less than or equal to 131072"),
        ({"config": {"context_tokens": 127}}, "config.context_tokens", "greater than or equal to 128"),
        ({"config": {"timeout_seconds": 0.5}}, "config.timeout_seconds", "greater than or equal to 1"),
        ({"config": {"timeout_seconds": 86401}}, "config.timeout_seconds", "less than or equal to 86400"),
        # 30 days: storage-service keeps nothing waiting for longer.
        ({"config": {"approval_timeout_seconds": 2592001}}, "config.approval_timeout_seconds", "equal to 2592000"),
        ({"config": {"max_retries": 11}}, "config.max_retries", "less than or equal to 10"),
        ({"config": {"stop": ["x"] * 9}}, "config.stop", "at most 8"),
        ({"config": {"stop": ["a", ""]}}, "config.stop[1]", "at least 1"),
        ({"config": {"fallback_models": ["m"] * 9}}, "config.fallback_models", "at most 8"),
        ({"config": {"system_prompt": "x" * 200_001}}, "config.system_prompt", "at most 200000"),
        ({"config": {"keep_alive": "soon"}}, "config.keep_alive", "no duration"),
        ({"config": {"keep_alive": True}}, "config.keep_alive", "string"),
        ({"config": {"output_schema": {"type": "objekt"}}}, "config.output_schema", "no JSON Schema at type"),
        ({"config": {"output_schema": {"pattern": "("}}}, "config.output_schema", "no JSON Schema at pattern"),
        ({"config": {"output_schema": {"$ref": "http://x/y"}}}, "config.output_schema", "into the schema itself"),
        ({"config": {"output_schema": {"title": "x" * 70_000}}}, "config.output_schema", "at most 65536"),
        ({"config": {"output_schema": {"title": "\x00"}}}, "config.output_schema", "NUL"),
        ({"config": {"output_schema": []}}, "config.output_schema", "dictionary"),
        ({"config": None}, "config", "dictionary"),
    ],
)
async def test_what_is_wrong_is_named_by_its_field(world: World, fields: Any, field: str, text: str) -> None:
    answer = await create(world, **fields)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "invalid_request"
    assert [e["field"] for e in problem["errors"]] == [field]
    assert text in problem["errors"][0]["message"]
    assert field in problem["detail"]


async def test_surrogates_are_refused_wherever_they_stand(world: World) -> None:
    for body in (
        b'{"name":"\\ud800","model_name":"m"}',
        b'{"name":"n","model_name":"m","\\ud800":1}',
        b'{"name":"n","model_name":"m","config":{"output_schema":{"\\udfff":1}}}',
        b'{"name":"n","model_name":"m","config":{"stop":["\\ud800"]}}',
    ):
        answer = await world.http.post("/agents/create", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, body
        assert answer.json()["code"] == "invalid_request"


async def test_agents_are_paged_and_filtered(world: World) -> None:
    name = new_id()
    made = [(await create(world, name=f"{name} {n}")).json() for n in range(5)]
    await world.http.delete(f"/agents/{made[0]['id']}")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"name": name.upper(), "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await world.http.get("/agents", params=params)).json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) <= 2
        seen += [a["id"] for a in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [a["id"] for a in reversed(made)]
    active = (await world.http.get("/agents", params={"name": name, "is_active": "true"})).json()["items"]
    assert [a["id"] for a in active] == [a["id"] for a in reversed(made[1:])]
    deleted = (await world.http.get("/agents", params={"name": name, "is_active": "false"})).json()["items"]
    assert [a["id"] for a in deleted] == [made[0]["id"]]


async def test_put_replaces_and_revives(world: World) -> None:
    agent = (await create(world, description="old", config=FULL_CONFIG)).json()
    assert (await world.http.delete(f"/agents/{agent['id']}")).status_code == 204
    assert (await world.http.get(f"/agents/{agent['id']}")).json()["is_active"] is False
    answer = await world.http.put(f"/agents/{agent['id']}", json={"name": "new", "model_name": "other"})
    assert answer.status_code == 200
    replaced = answer.json()
    assert replaced["name"] == "new"
    assert replaced["model_name"] == "other"
    assert replaced["description"] == ""
    assert replaced["config"] == {}
    assert replaced["is_active"] is True
    body = {"name": "new", "model_name": "other", "is_active": False}
    assert (await world.http.put(f"/agents/{agent['id']}", json=body)).json()["is_active"] is False


async def test_an_unknown_agent_is_404_and_a_wrong_id_422(world: World) -> None:
    body = {"name": "n", "model_name": "m"}
    for method, content in (("GET", None), ("PUT", body), ("DELETE", None)):
        unknown = await world.http.request(method, f"/agents/{new_id()}", json=content)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "agent_not_found")
        wrong = await world.http.request(method, "/agents/nobody", json=content)
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "agent_id")


async def run(world: World, body: Any, key: str | None = None) -> Any:
    """The answer to a run."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await world.http.post("/agents/run", json=body, headers=headers)


async def test_a_run_is_accepted_with_links_that_work(world: World) -> None:
    agent = await world.state.add_agent()
    session_id = new_id()
    body = {"agent_id": agent.id, "input": {"prompt": "Name three colours."}, "session_id": session_id}
    answer = await run(world, body)
    assert answer.status_code == 202
    accepted = answer.json()
    task_id = accepted["task_id"]
    assert accepted["status"] == "pending"
    assert answer.headers["location"] == f"/api/v1/tasks/{task_id}/status"
    assert accepted["links"] == {
        "status": f"/api/v1/tasks/{task_id}/status",
        "stream": f"/api/v1/logs/stream/{task_id}",
        "events": f"/api/v1/ws/tasks/{task_id}",
        "logs": f"/api/v1/tasks/{task_id}/logs",
        "attempts": f"/api/v1/tasks/{task_id}/attempts",
        "cancel": f"/api/v1/tasks/{task_id}",
        "trace": None,
    }
    task = (await world.http.get(f"/tasks/{task_id}/status")).json()
    assert task["input"] == body["input"]
    assert task["session_id"] == session_id


async def test_a_conversation_is_passed_on_as_it_is(world: World) -> None:
    agent = await world.state.add_agent()
    messages = [{"role": r, "content": f"“{r}”"} for r in ("system", "user", "assistant", "tool")]
    task_id = (await run(world, {"agent_id": agent.id, "input": {"messages": messages}})).json()["task_id"]
    assert (await world.http.get(f"/tasks/{task_id}/status")).json()["input"] == {"messages": messages}


async def test_an_idempotency_key_gives_the_same_task_for_the_same_body_only(world: World) -> None:
    agent = await world.state.add_agent()
    body = {"agent_id": agent.id, "input": {"prompt": "one"}}
    key = new_id()
    first, again = await run(world, body, key), await run(world, body, key)
    assert first.json()["task_id"] == again.json()["task_id"]
    assert again.status_code == 202
    other = await run(world, {**body, "input": {"prompt": "two"}}, key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    for bad in ("", "a b", "x" * 256):
        answer = await run(world, body, bad)
        assert answer.status_code == 422, bad
        assert answer.json()["errors"][0]["field"] == "idempotency-key"


async def test_a_deleted_or_unknown_agent_is_not_run(world: World) -> None:
    agent = await world.state.add_agent(is_active=False)
    answer = await run(world, {"agent_id": agent.id, "input": {"prompt": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "agent_inactive")
    answer = await run(world, {"agent_id": new_id(), "input": {"prompt": "x"}})
    assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": {}}, "input"),
        ({"input": {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}}, "input"),
        ({"input": {"prompt": ""}}, "input.prompt"),
        ({"input": {"prompt": None}}, "input.prompt"),
        ({"input": {"prompt": "x" * 200_001}}, "input.prompt"),
        ({"input": {"prompt": "\x00"}}, "input.prompt"),
        ({"input": {"promt": "x"}}, "input.promt"),
        ({"input": {"messages": []}}, "input.messages"),
        ({"input": {"messages": [{"role": "user", "content": "x"}] * 501}}, "input.messages"),
        ({"input": {"messages": [{"role": "boss", "content": "x"}]}}, "input.messages[0].role"),
        ({"input": {"messages": [{"role": "user"}]}}, "input.messages[0].content"),
        ({"input": {"messages": [{"role": "user", "content": "x", "contents": 1}]}}, "input.messages[0].contents"),
        ({"input": "x"}, "input"),
        ({"agent_id": "x"}, "agent_id"),
        ({"session_id": "my session"}, "session_id"),
        ({"sesion_id": new_id()}, "sesion_id"),
    ],
)
async def test_what_is_wrong_with_a_run_is_named(world: World, fields: Any, field: str) -> None:
    answer = await run(world, {"agent_id": new_id(), "input": {"prompt": "x"}, **fields})
    assert answer.status_code == 422
    assert [e["field"] for e in answer.json()["errors"]] == [field]
