"""Tools of agents over HTTP, and calling one by hand."""

from typing import Any

import pytest
from hearth_runtime.errors import TooManyTrials
from hearth_runtime.identifiers import is_id, new_id
from servers.gateway import World

SECRET = "sk-0123456789"
CONFIG = {"url": "http://x", "key": SECRET, "headers": {"accept": "text/plain"}}
SHOWN = {**CONFIG, "key": "********"}


async def give(world: World, agent_id: str, **fields: Any) -> Any:
    """The answer to giving the agent a tool."""
    return await world.http.post(
        f"/agents/{agent_id}/tools", json={"tool_name": "echo", "tool_config": CONFIG, **fields}
    )


async def new_agent(world: World) -> str:
    return (await world.state.add_agent()).id


async def try_tool(world: World, name: str, **body: Any) -> Any:
    return await world.http.post(f"/tools/{name}/try", json=body)


async def test_a_tool_is_given_read_listed_replaced_and_taken_away(world: World) -> None:
    agent_id = await new_agent(world)
    answer = await give(world, agent_id)
    assert answer.status_code == 201
    tool = answer.json()
    assert is_id(tool["id"])
    assert answer.headers["location"] == f"/api/v1/agents/{agent_id}/tools/{tool['id']}"
    assert {name: tool[name] for name in ("agent_id", "name", "tool_name", "tool_config", "is_enabled")} == {
        "agent_id": agent_id, "name": "echo", "tool_name": "echo", "tool_config": SHOWN, "is_enabled": True
    }  # fmt: skip
    assert [tool[name] for name in ("description", "needs_approval", "timeout_seconds", "result_characters")] == [
        None, None, None, None
    ]  # fmt: skip
    path = f"/agents/{agent_id}/tools/{tool['id']}"
    assert (await world.http.get(path)).json() == tool
    assert (await world.http.get(f"/agents/{agent_id}/tools")).json() == {"items": [tool], "next_cursor": None}
    bounds = {"description": "d", "needs_approval": False, "timeout_seconds": 2.5, "result_characters": 9}
    put = await world.http.put(
        path, json={"tool_name": "echo", "name": "mine", "tool_config": SHOWN, "is_enabled": False, **bounds}
    )
    assert put.status_code == 200
    assert put.json()["tool_config"] == SHOWN
    assert {**put.json(), **bounds, "name": "mine", "is_enabled": False} == put.json()
    assert (await world.http.delete(path)).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await world.http.request(method, path)
        assert gone.status_code == 404
        assert gone.json()["code"] == "tool_not_found"


async def test_a_list_of_tools_is_paged(world: World) -> None:
    agent_id = await new_agent(world)
    ids = [(await give(world, agent_id, name=f"t{n}")).json()["id"] for n in range(3)]
    first = (await world.http.get(f"/agents/{agent_id}/tools", params={"limit": 2})).json()
    rest = (
        await world.http.get(f"/agents/{agent_id}/tools", params={"limit": 2, "cursor": first["next_cursor"]})
    ).json()
    assert [tool["id"] for tool in first["items"] + rest["items"]] == ids
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"tool_config": {"url": "ftp://x"}}, "tool_config.url", "does not match"),
        ({"tool_config": {}}, "tool_config", "required"),
        ({"tool_config": {"url": "http://x", "key": "********"}}, "tool_config.key", "give the secret itself"),
        ({"tool_config": []}, "tool_config", "dictionary"),
        ({"tool_config": {"url": "http://" + "x" * 300_000}}, "tool_config", "at most 262144"),
        ({"tool_config": {"url": "http://\x00"}}, "tool_config", "NUL"),
        ({"tool_name": ""}, "tool_name", "pattern"),
        ({"name": "two words"}, "name", "pattern"),
        ({"timeout_seconds": 0}, "timeout_seconds", "greater than 0"),
        ({"result_characters": 0}, "result_characters", "greater than or equal to 1"),
        ({"needs_aproval": True}, "needs_aproval", "did you mean `needs_approval`?"),
    ],
)
async def test_what_is_wrong_is_named(world: World, fields: dict[str, Any], field: str, words: str) -> None:
    answer = await give(world, await new_agent(world), **fields)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]


async def test_a_kind_that_is_not_there_leads_to_those_that_are(world: World) -> None:
    answer = await give(world, await new_agent(world), tool_name="nope")
    assert answer.status_code == 422
    assert answer.json()["code"] == "tool_kind_not_found"
    agent_id = await new_agent(world)
    assert (await give(world, agent_id)).status_code == 201
    taken = await give(world, agent_id)
    assert taken.status_code == 409
    assert taken.json()["code"] == "tool_name_taken"
    assert (await give(world, new_id())).json()["code"] == "agent_not_found"


async def test_the_kinds_say_how_they_are_configured(world: World) -> None:
    (kind,) = (await world.http.get("/tools")).json()["items"]
    assert kind["name"] == "echo"
    assert kind["config_schema"]["$defs"]["secret"]["writeOnly"] is True


async def test_a_tool_is_called_by_hand(world: World) -> None:
    answer = await try_tool(world, "echo", tool_config=CONFIG, arguments={"n": 1})
    assert answer.status_code == 200
    result = answer.json()
    assert result["tool"] == "echo"
    assert result["is_error"] is False
    assert result["data"] == {"sent": [SHOWN]}
    assert result["tools"] is None
    assert result["duration_seconds"] >= 0
    assert SECRET not in answer.text


async def test_without_arguments_the_answer_tells_what_there_is_to_call(world: World) -> None:
    result = (await try_tool(world, "echo", tool_config=CONFIG)).json()
    assert result["content"] is None
    assert [tool["name"] for tool in result["tools"]] == ["echo"]
    assert result["tools"][0]["parameters"] == {"type": "object"}


async def test_an_agent_s_tool_is_tried_with_its_own_configuration(world: World) -> None:
    agent_id = await new_agent(world)
    await give(world, agent_id, name="mine")
    for name in ("mine", "echo"):
        result = (await try_tool(world, name, agent_id=agent_id, arguments={})).json()
        assert result["tool"] == "mine"
        assert result["data"] == {"sent": [SHOWN]}
    changed = {"url": "http://y", "key": "********"}
    result = (await try_tool(world, "mine", agent_id=agent_id, tool_config=changed, arguments={})).json()
    assert result["data"] == {"sent": [changed]}


async def test_what_goes_wrong_with_a_tool_is_a_result(world: World) -> None:
    for arguments in ({"raise": "own"}, {"raise": "other"}):
        answer = await try_tool(world, "echo", tool_config=CONFIG, arguments=arguments)
        assert answer.status_code == 200
        assert answer.json()["is_error"] is True
        assert SECRET not in answer.text
    away = await try_tool(world, "echo", tool_config={**CONFIG, "url": "http://unreachable"}, arguments={})
    assert away.json()["content"] == "Nothing answers at http://unreachable?key=********"


async def test_what_is_wrong_with_a_trial_is_an_error(world: World) -> None:
    agent_id = await new_agent(world)
    for name, body, status, code in (
        ("nope", {"arguments": {}}, 404, "tool_not_found"),
        ("nope", {"agent_id": agent_id, "arguments": {}}, 404, "tool_not_found"),
        ("echo", {"agent_id": new_id(), "arguments": {}}, 404, "agent_not_found"),
        ("echo", {"tool_config": {}, "arguments": {}}, 422, "invalid_argument"),
        ("echo", {"tool_config": CONFIG, "tool": "other", "arguments": {}}, 422, "invalid_argument"),
        ("echo", {"arguments": []}, 422, "invalid_request"),
        ("a b", {}, 422, "invalid_request"),
    ):
        answer = await try_tool(world, name, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (name, body)
    world.state.failures["TryTool"] = TooManyTrials("16 tools are tried at this moment.")
    answer = await try_tool(world, "echo")
    assert answer.status_code == 429
    assert answer.headers["retry-after"]


async def test_a_trial_may_take_longer_than_other_calls(world: World) -> None:
    await try_tool(world, "echo", tool_config=CONFIG)
    remaining = world.state.time_remaining["TryTool"]
    assert remaining is not None
    assert 100 < remaining <= 120
    await world.http.post("/tools/echo/try", json={"tool_config": CONFIG}, headers={"prefer": "wait=3"})
    remaining = world.state.time_remaining["TryTool"]
    assert remaining is not None
    assert remaining <= 3


async def test_a_tool_is_checked_without_being_called(world: World) -> None:
    agent_id = await new_agent(world)
    tool = (await give(world, agent_id)).json()
    check = (await world.http.get(f"/agents/{agent_id}/tools/{tool['id']}/check")).json()
    assert check["is_healthy"] is True
    assert check["detail"] == ""
    assert [t["name"] for t in check["tools"]] == ["echo"]
    away = (await give(world, agent_id, name="away", tool_config={**CONFIG, "url": "http://unreachable"})).json()
    check = (await world.http.get(f"/agents/{agent_id}/tools/{away['id']}/check")).json()
    assert check["is_healthy"] is False
    assert check["detail"] == "Nothing answers at http://unreachable?key=********"
    assert check["tools"] == []
    missing = await world.http.get(f"/agents/{agent_id}/tools/{new_id()}/check")
    assert missing.json()["code"] == "tool_not_found"
