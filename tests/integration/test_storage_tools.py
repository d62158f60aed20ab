"""Tools of agents over gRPC and on real PostgreSQL."""

import asyncio
from typing import Any

import pytest
from hearth.agent.v1 import agent_pb2
from hearth.storage.v1 import agent_store_pb2, tool_store_pb2
from hearth.storage.v1.tool_store_pb2_grpc import ToolStoreServiceStub
from hearth_runtime.agents import DOCUMENTS_AGENT_ID
from hearth_runtime.errors import (
    AgentNotFound,
    AgentReserved,
    HearthError,
    InvalidArgument,
    ToolNameTaken,
    ToolNotFound,
    TooManyTools,
)
from hearth_runtime.identifiers import new_id
from storage_service.agent_tools import TOOLS_LIMIT


@pytest.fixture
def tools(storage: Any) -> Any:
    return ToolStoreServiceStub(storage.channel)


def tool(agent_id: str, **fields: Any) -> tool_store_pb2.StoredTool:
    return tool_store_pb2.StoredTool(
        **{"id": new_id(), "agent_id": agent_id, "name": "calculator", "tool_name": "calculator", **fields}
    )


async def insert(tools: Any, agent_id: str, **fields: Any) -> Any:
    return (await tools.InsertTool(tool_store_pb2.InsertToolRequest(tool=tool(agent_id, **fields)))).tool


async def get(tools: Any, row: Any) -> Any:
    return (await tools.GetTool(tool_store_pb2.GetToolRequest(agent_id=row.agent_id, id=row.id))).tool


async def listed(tools: Any, agent_id: str, **fields: Any) -> Any:
    return await tools.ListTools(tool_store_pb2.ListToolsRequest(agent_id=agent_id, **fields))


async def test_a_tool_comes_back_as_it_was(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    whole = {
        "name": "mine",
        "tool_name": "http_request",
        "tool_config": '{"key":"********","hosts":["a.test"]}',
        "secrets": bytes(range(256)),
        "is_enabled": True,
        "description": "d",
        "needs_approval": False,
        "timeout_seconds": 2.5,
        "result_characters": 100,
    }
    row = await insert(tools, agent_id, **whole)
    assert {name: getattr(row, name) for name in whole} == whole
    assert row.created_at == row.updated_at
    assert await get(tools, row) == row
    bare = await insert(tools, agent_id)
    assert bare.tool_config == "{}"
    assert bare.secrets == b""
    for name in ("description", "needs_approval", "timeout_seconds", "result_characters"):
        assert not bare.HasField(name)


async def test_inserting_again_is_harmless_and_a_name_is_one_tool_s(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    row = await insert(tools, agent_id, description="first")
    assert await insert(tools, agent_id, id=row.id, description="second") == row
    with pytest.raises(ToolNameTaken, match=f"GET /api/v1/agents/{agent_id}/tools"):
        await insert(tools, agent_id)
    await insert(tools, agent_id, name="another")
    await insert(tools, await storage.new_agent())


async def test_an_update_replaces_all_but_id_agent_and_created_at(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    before = await insert(tools, agent_id, description="d", needs_approval=True, secrets=b"s", is_enabled=True)
    other = await insert(tools, agent_id, name="other")
    change = tool(agent_id, id=before.id, name="after", tool_name="files", tool_config='{"a":1}')
    after = (await tools.UpdateTool(tool_store_pb2.UpdateToolRequest(tool=change))).tool
    assert after == await get(tools, before)
    assert (after.name, after.tool_name, after.tool_config, after.secrets) == ("after", "files", '{"a":1}', b"")
    assert not after.is_enabled
    assert not after.HasField("needs_approval")
    assert after.created_at == before.created_at
    assert after.updated_at.ToDatetime() > before.updated_at.ToDatetime()
    with pytest.raises(ToolNameTaken):
        await tools.UpdateTool(tool_store_pb2.UpdateToolRequest(tool=tool(agent_id, id=other.id, name="after")))


async def test_an_update_with_secrets_of_before_changes_nothing_where_there_are_others(
    storage: Any, tools: Any
) -> None:
    agent_id = await storage.new_agent()
    row = await insert(tools, agent_id, secrets=b"old")

    async def update(secrets: bytes, **fields: bytes) -> Any:
        change = tool(agent_id, id=row.id, secrets=secrets)
        return await tools.UpdateTool(tool_store_pb2.UpdateToolRequest(tool=change, **fields))

    assert (await update(b"new", old_secrets=b"old")).tool.secrets == b"new"
    assert not (await update(b"old", old_secrets=b"old")).HasField("tool")
    assert not (await update(b"old", old_secrets=b"")).HasField("tool")
    assert (await get(tools, row)).secrets == b"new"
    assert (await update(b"other")).tool.secrets == b"other"


async def test_what_is_not_the_agent_s_is_not_there(storage: Any, tools: Any) -> None:
    row = await insert(tools, await storage.new_agent())
    stranger = await storage.new_agent()
    for agent_id, tool_id in ((stranger, row.id), (row.agent_id, new_id()), (new_id(), row.id), ("no", "no")):
        for call in (
            tools.GetTool(tool_store_pb2.GetToolRequest(agent_id=agent_id, id=tool_id)),
            tools.UpdateTool(tool_store_pb2.UpdateToolRequest(tool=tool(agent_id, id=tool_id))),
            tools.UpdateTool(tool_store_pb2.UpdateToolRequest(tool=tool(agent_id, id=tool_id), old_secrets=b"")),
            tools.DeleteTool(tool_store_pb2.DeleteToolRequest(agent_id=agent_id, id=tool_id)),
        ):
            with pytest.raises(ToolNotFound, match="GET /api/v1/agents"):
                await call
    for agent_id in (new_id(), "no"):
        with pytest.raises(AgentNotFound):
            await insert(tools, agent_id)
        with pytest.raises(AgentNotFound):
            await listed(tools, agent_id)
    with pytest.raises(AgentReserved):
        await insert(tools, DOCUMENTS_AGENT_ID)
    assert await get(tools, row) == row


async def test_a_deleted_tool_is_gone_and_a_deleted_agent_keeps_its_tools(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    row, kept = await insert(tools, agent_id), await insert(tools, agent_id, name="kept")
    request = tool_store_pb2.DeleteToolRequest(agent_id=agent_id, id=row.id)
    await tools.DeleteTool(request)
    with pytest.raises(ToolNotFound):
        await tools.DeleteTool(request)
    before = (await storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id))).agent
    await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
    assert list((await listed(tools, agent_id)).tools) == [kept]
    await storage.agents.UpdateAgent(
        agent_store_pb2.UpdateAgentRequest(agent=agent_pb2.Agent(id=agent_id, name="n", model_name="m", is_active=True))
    )
    assert list((await listed(tools, agent_id)).tools) == [kept]
    assert before.is_active


async def test_a_list_is_paged_the_oldest_first(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    ids = [(await insert(tools, agent_id, name=f"t{n}", is_enabled=n % 2 == 0)).id for n in range(5)]
    first = await listed(tools, agent_id, page_size=3)
    assert [t.id for t in first.tools] == ids[:3]
    rest = await listed(tools, agent_id, page_size=3, page_token=first.next_page_token)
    assert [t.id for t in rest.tools] == ids[3:]
    assert rest.next_page_token == ""
    assert [t.id for t in (await listed(tools, agent_id, is_enabled=True)).tools] == ids[::2]
    assert [t.id for t in (await listed(tools, agent_id, is_enabled=False)).tools] == ids[1::2]
    with pytest.raises(InvalidArgument, match="cursor"):
        await listed(tools, agent_id, page_token="garbled")


async def test_an_agent_has_a_bounded_number_of_tools(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    for n in range(TOOLS_LIMIT):
        await insert(tools, agent_id, name=f"t{n}")
    with pytest.raises(TooManyTools, match=str(TOOLS_LIMIT)):
        await insert(tools, agent_id)
    with pytest.raises(ToolNameTaken):
        await insert(tools, agent_id, name="t0")


async def test_of_many_who_insert_a_name_at_once_one_does(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    ends = await asyncio.gather(*(insert(tools, agent_id) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(end, ToolNameTaken) for end in ends) == 7
    assert sum(isinstance(end, HearthError) for end in ends) == 7


async def test_what_is_no_tool_is_refused(storage: Any, tools: Any) -> None:
    agent_id = await storage.new_agent()
    for fields in ({"id": "no"}, {"name": ""}, {"tool_name": ""}, {"tool_config": "[]"}, {"tool_config": "{"}):
        with pytest.raises(InvalidArgument):
            await insert(tools, agent_id, **fields)


async def test_secrets_of_all_agents_are_paged_and_replaced_where_they_are_what_they_were(
    storage: Any, tools: Any
) -> None:
    await storage.sql("DELETE FROM agent_tools")
    rows = [await insert(tools, await storage.new_agent(), secrets=b"old") for _ in range(3)]
    await insert(tools, await storage.new_agent())
    found, token = list[str](), ""
    while True:
        page = await tools.ListSecrets(tool_store_pb2.ListSecretsRequest(page_size=2, page_token=token))
        found += [row.id for row in page.tools]
        token = page.next_page_token
        if not token:
            break
    assert found == [row.id for row in rows]

    async def replaced(old: bytes) -> bool:
        request = tool_store_pb2.ReplaceSecretsRequest(
            agent_id=rows[0].agent_id, id=rows[0].id, old_secrets=old, new_secrets=b"new"
        )
        return bool((await tools.ReplaceSecrets(request)).is_replaced)

    assert not await replaced(b"other")
    assert (await get(tools, rows[0])).secrets == b"old"
    assert await replaced(b"old")
    assert not await replaced(b"old")
    assert (await get(tools, rows[0])).secrets == b"new"
    assert (await get(tools, rows[1])).secrets == b"old"
