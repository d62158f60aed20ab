"""Sessions: listed, read, renamed, forked, deleted and exported."""

from hearth.agent.v1 import task_pb2
from hearth_runtime.identifiers import new_id
from servers.gateway import World

FIELDS = {
    "id", "agent_id", "title", "forked_from", "turn_count", "first_turn", "summary", "summarized_turns", "created_at",
    "updated_at",
}  # fmt: skip


async def test_a_session_is_shown_with_its_turns_in_pages(world: World) -> None:
    session = world.state.add_session("Hi.", "Hello.", "And?", agent_id=new_id(), title="Greetings")
    shown = (await world.http.get(f"/sessions/{session.id}", params={"limit": 2})).json()
    assert set(shown) == FIELDS | {"turns", "next_cursor"}
    assert (shown["title"], shown["forked_from"], shown["turn_count"]) == ("Greetings", None, 3)
    assert shown["turns"] == [
        {"number": 1, "role": "user", "content": "Hi.", "task_id": None, "created_at": None},
        {"number": 2, "role": "assistant", "content": "Hello.", "task_id": None, "created_at": None},
    ]
    rest = (await world.http.get(f"/sessions/{session.id}", params={"cursor": shown["next_cursor"]})).json()
    assert [turn["number"] for turn in rest["turns"]] == [3]
    assert rest["next_cursor"] is None


async def test_sessions_are_listed_by_agent(world: World) -> None:
    agent_id = new_id()
    ids = [world.state.add_session("Hi.", agent_id=agent_id).id for _ in range(3)]
    world.state.add_session("Hi.", agent_id=new_id())
    first = (await world.http.get("/sessions", params={"agent_id": agent_id, "limit": 2})).json()
    assert [item["id"] for item in first["items"]] == ids[:0:-1]
    assert set(first["items"][0]) == FIELDS
    last = (await world.http.get("/sessions", params={"agent_id": agent_id, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in last["items"]] == ids[:1]


async def test_a_title_is_given_and_taken_away(world: World) -> None:
    session = world.state.add_session("Hi.", agent_id=new_id())
    path = f"/sessions/{session.id}"
    assert (await world.http.patch(path, json={"title": "Greetings"})).json()["title"] == "Greetings"
    assert (await world.http.patch(path, json={"title": None})).json()["title"] is None
    for wrong in ({}, {"title": ""}, {"title": "x" * 201}, {"name": "x"}):
        answer = await world.http.patch(path, json=wrong)
        assert answer.status_code == 422, wrong


async def test_a_fork_is_a_session_of_its_own(world: World) -> None:
    session = world.state.add_session("Hi.", "Hello.", "And?", agent_id=new_id(), title="Greetings")
    whole = await world.http.post(f"/sessions/{session.id}/fork")
    assert whole.status_code == 201
    assert whole.json()["turn_count"] == 3
    assert whole.headers["location"] == f"/api/v1/sessions/{whole.json()['id']}"
    fork = (await world.http.post(f"/sessions/{session.id}/fork", json={"until_turn": 1, "title": "Other"})).json()
    assert (fork["title"], fork["forked_from"], fork["turn_count"]) == ("Other", session.id, 1)
    answer = await world.http.post(f"/sessions/{session.id}/fork", json={"until_turn": 4})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "until_turn")


async def test_a_session_in_use_is_not_deleted(world: World) -> None:
    session = world.state.add_session("Hi.", agent_id=new_id())
    task = await world.state.add_task(session_id=session.id)
    answer = await world.http.delete(f"/sessions/{session.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "session_in_use")
    await world.state.end_task(task, task_pb2.Task.STATUS_CANCELLED)
    assert (await world.http.delete(f"/sessions/{session.id}")).status_code == 204
    for method, path in (("GET", ""), ("GET", "/export"), ("DELETE", ""), ("POST", "/fork")):
        answer = await world.http.request(method, f"/sessions/{session.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found"), (method, path)


async def test_an_export_is_whole_as_json_and_as_markdown(world: World) -> None:
    contents = [f"turn {n}" for n in range(1, 1002)]
    session = world.state.add_session(*contents, agent_id=new_id(), title="Long")
    path = f"/sessions/{session.id}/export"
    exported = (await world.http.get(path)).json()
    assert [turn["content"] for turn in exported["turns"]] == contents
    assert set(exported) == FIELDS | {"turns"}
    for options in ({"params": {"format": "markdown"}}, {"headers": {"accept": "text/markdown"}}):
        answer = await world.http.get(path, **options)  # type: ignore[arg-type]
        assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
        assert answer.text.startswith("# Long\n")
        assert "\n## 1001. user\n\nturn 1001\n" in answer.text
    answer = await world.http.get(path, params={"format": "json"}, headers={"accept": "text/markdown"})
    assert answer.headers["content-type"] == "application/json"
    assert (await world.http.get(path, params={"format": "pdf"})).status_code == 422
