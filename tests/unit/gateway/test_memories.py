"""What agents remember: kept, listed, searched, changed and forgotten."""

from typing import Any

import pytest
from hearth_runtime.identifiers import new_id
from servers.gateway import World

FIELDS = {
    "id", "agent_id", "scope", "session_id", "user", "content", "topic", "importance", "source", "task_id",
    "created_at", "updated_at", "last_recalled_at", "recall_count", "superseded_by", "superseded_at",
}  # fmt: skip


async def remember(world: World, agent_id: str, content: str, **fields: Any) -> Any:
    answer = await world.http.post(f"/agents/{agent_id}/memories", json={"content": content, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_fact_is_shown_whole(world: World) -> None:
    agent = await world.state.add_agent()
    answer = await world.http.post(
        f"/agents/{agent.id}/memories",
        json={"content": "Likes tea.", "scope": "user", "user": "ada", "topic": "drink", "importance": 0.8},
    )
    kept = answer.json()
    memory = kept["memory"]
    assert answer.headers["location"] == f"/api/v1/memories/{memory['id']}"
    assert set(memory) == FIELDS
    assert (memory["scope"], memory["user"], memory["session_id"]) == ("user", "ada", None)
    assert (memory["topic"], memory["importance"], memory["source"]) == ("drink", 0.8, "api")
    assert (kept["created"], kept["superseded_ids"]) == (True, [])
    assert (await world.http.get(f"/memories/{memory['id']}")).json() == memory
    assert not (await remember(world, agent.id, "Likes tea."))["created"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"content": " "},
        {"content": "x" * 1001},
        {"content": "x", "importance": 2},
        {"content": "x", "scope": "user"},
        {"content": "x", "user": "ada"},
        {"content": "x", "scope": "session"},
        {"content": "x", "scope": "session", "session_id": "no-uuid"},
        {"content": "x", "scope": "world"},
    ],
)
async def test_what_is_not_valid_is_refused(world: World, wrong: dict[str, Any]) -> None:
    agent = await world.state.add_agent()
    answer = await world.http.post(f"/agents/{agent.id}/memories", json=wrong)
    assert answer.status_code == 422, answer.text


async def test_facts_are_filtered_and_paged(world: World) -> None:
    agent, session_id = await world.state.add_agent(), new_id()
    for n in range(3):
        await remember(world, agent.id, f"fact {n}")
    await remember(world, agent.id, "of ada", scope="user", user="ada")
    await remember(world, agent.id, "of the session", scope="session", session_id=session_id)
    path = f"/agents/{agent.id}/memories"

    async def contents(**params: Any) -> list[str]:
        answer = await world.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return [item["content"] for item in answer.json()["items"]]

    assert await contents() == ["of the session", "of ada", "fact 2", "fact 1", "fact 0"]
    assert await contents(scope="agent", contains="FACT 1") == ["fact 1"]
    assert await contents(user="ada") == ["of ada"]
    assert await contents(session_id=session_id) == ["of the session"]
    first = (await world.http.get(path, params={"limit": 4})).json()
    assert await contents(cursor=first["next_cursor"]) == ["fact 0"]
    assert (await world.http.get(path, params={"user": "ada", "scope": "agent"})).status_code == 422
    assert (await world.http.get(f"/agents/{new_id()}/memories")).json()["code"] == "agent_not_found"


async def test_search_asks_for_the_agents_and_the_named_ones_facts(world: World) -> None:
    agent = await world.state.add_agent()
    await remember(world, agent.id, "of all")
    await remember(world, agent.id, "of ada", scope="user", user="ada")
    await remember(world, agent.id, "of bob", scope="user", user="bob")
    body = {"agent_id": agent.id, "query": "Who?", "user": "ada", "limit": 5}
    answer = await world.http.post("/memories/search", json=body)
    items = answer.json()["items"]
    assert [item["memory"]["content"] for item in items] == ["of ada", "of all"]
    assert set(items[0]) == {"memory", "similarity", "relevance", "recency", "score"}
    assert (await world.http.post("/memories/search", json={**body, "query": ""})).status_code == 422


async def test_a_fact_is_changed_in_part(world: World) -> None:
    agent = await world.state.add_agent()
    path = f"/memories/{(await remember(world, agent.id, 'Likes tea.', topic='drink'))['memory']['id']}"
    changed = (await world.http.patch(path, json={"importance": 0.9})).json()
    assert (changed["content"], changed["topic"], changed["importance"]) == ("Likes tea.", "drink", 0.9)
    changed = (await world.http.patch(path, json={"content": "Likes coffee.", "topic": None})).json()
    assert (changed["content"], changed["topic"], changed["importance"]) == ("Likes coffee.", None, 0.9)
    assert (await world.http.patch(path, json={"content": ""})).status_code == 422


async def test_facts_are_forgotten_one_by_one_or_by_scope(world: World) -> None:
    agent = await world.state.add_agent()
    memory_id = (await remember(world, agent.id, "of all"))["memory"]["id"]
    for n in range(2):
        await remember(world, agent.id, f"{n} of ada", scope="user", user="ada")
    assert (await world.http.delete(f"/memories/{memory_id}")).status_code == 204
    for method in ("GET", "DELETE"):
        answer = await world.http.request(method, f"/memories/{memory_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "memory_not_found")
    path = f"/agents/{agent.id}/memories"
    for wrong in ({}, {"scope": "user"}, {"scope": "agent", "user": "ada"}):
        assert (await world.http.delete(path, params=wrong)).status_code == 422
    answer = await world.http.delete(path, params={"scope": "user", "user": "ada"})
    assert answer.json() == {"forgotten_count": 2}
    assert (await world.http.get(path)).json()["items"] == []


async def test_an_agent_is_told_to_remember_and_a_run_for_whom_it_is(world: World) -> None:
    memory = {"scope": "user", "extract": True, "recall": 3}
    body = {"name": "helper", "model_name": "m", "config": {"memory": memory}}
    agent = (await world.http.post("/agents/create", json=body)).json()
    assert agent["config"] == {"memory": memory}
    wrong = {**body, "config": {"memory": {"scope": "world"}}}
    assert (await world.http.post("/agents/create", json=wrong)).status_code == 422
    run = {"agent_id": agent["id"], "input": {"prompt": "hi"}, "user": "ada"}
    accepted = (await world.http.post("/agents/run", json=run)).json()
    assert (await world.http.get(f"/tasks/{accepted['task_id']}/status")).json()["user"] == "ada"
    assert (await world.http.post("/agents/run", json={**run, "user": ""})).status_code == 422
