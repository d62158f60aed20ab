"""Agents over gRPC and on real PostgreSQL."""

from typing import Any

import pytest
from hearth.agent.v1 import agent_pb2
from hearth.storage.v1 import agent_store_pb2
from hearth_runtime.errors import AgentNotFound, InvalidArgument
from hearth_runtime.identifiers import new_id

CONFIG = agent_pb2.AgentConfig(
    system_prompt="You are brief.\0",
    temperature=0.5,
    top_p=0.0,
    seed=0,
    max_tokens=64,
    stop=["\n", "END"],
    context_tokens=2048,
    timeout_seconds=30.5,
    max_retries=0,
    fallback_models=["a", "b"],
    # Its properties must stay in this order.
    output_schema='{"properties": {"zebra": {}, "ant": {}}}',
    keep_alive="5m",
)


async def get(storage: Any, agent_id: str) -> Any:
    return (await storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id))).agent


async def listed(storage: Any, **fields: Any) -> Any:
    return await storage.agents.ListAgents(agent_store_pb2.ListAgentsRequest(**fields))


async def test_an_agent_comes_back_as_it_was(storage: Any) -> None:
    agent_id = await storage.new_agent(name="whole", description="d", config=CONFIG)
    agent = await get(storage, agent_id)
    expected = agent_pb2.AgentConfig.FromString(CONFIG.SerializeToString())
    expected.system_prompt = "You are brief.\N{REPLACEMENT CHARACTER}"
    assert agent.config == expected
    assert (agent.name, agent.description, agent.model_name, agent.is_active) == ("whole", "d", "smollm2:135m", True)
    assert agent.created_at == agent.updated_at
    bare = await get(storage, await storage.new_agent())
    assert bare.config == agent_pb2.AgentConfig()


async def test_inserting_again_is_harmless(storage: Any) -> None:
    agent_id = await storage.new_agent(name="first")
    before = await get(storage, agent_id)
    await storage.new_agent(id=agent_id, name="second")
    assert await get(storage, agent_id) == before


async def test_an_update_replaces_all_but_id_and_created_at(storage: Any) -> None:
    agent_id = await storage.new_agent(name="before", description="d", config=CONFIG)
    before = await get(storage, agent_id)
    change = agent_pb2.Agent(id=agent_id, name="after", model_name="other", is_active=False)
    after = (await storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=change))).agent
    assert after == await get(storage, agent_id)
    assert (after.name, after.description, after.model_name, after.is_active) == ("after", "", "other", False)
    assert after.config == agent_pb2.AgentConfig()
    assert after.created_at == before.created_at
    assert after.updated_at.ToDatetime() > before.updated_at.ToDatetime()


async def test_deactivating_twice_is_harmless(storage: Any) -> None:
    agent_id = await storage.new_agent()
    request = agent_store_pb2.DeactivateAgentRequest(id=agent_id)
    await storage.agents.DeactivateAgent(request)
    once = await get(storage, agent_id)
    assert not once.is_active
    await storage.agents.DeactivateAgent(request)
    assert await get(storage, agent_id) == once


async def test_an_agent_that_is_not_there(storage: Any) -> None:
    for agent_id in (new_id(), "no-uuid", ""):
        for call in (
            storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id)),
            storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=agent_pb2.Agent(id=agent_id))),
            storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id)),
        ):
            with pytest.raises(AgentNotFound, match="GET /api/v1/agents"):
                await call
    with pytest.raises(InvalidArgument, match="id"):
        await storage.new_agent(id="no-uuid")


async def test_a_list_is_paged_the_newest_first(storage: Any) -> None:
    ids = [await storage.new_agent(name="paged-agent") for _ in range(7)]
    seen: list[str] = []
    sizes: list[int] = []
    token = ""
    while True:
        page = await listed(storage, page_size=3, page_token=token, name="PAGED-a")
        seen += [agent.id for agent in page.agents]
        sizes.append(len(page.agents))
        token = page.next_page_token
        if not token:
            break
        await storage.new_agent(name="paged-agent")
    assert seen == ids[::-1]
    assert sizes == [3, 3, 1]


async def test_a_full_last_page_has_no_token(storage: Any) -> None:
    for _ in range(2):
        await storage.new_agent(name="full-page")
    assert (await listed(storage, page_size=2, name="full-page")).next_page_token == ""


async def test_the_name_filter_takes_text_not_patterns(storage: Any) -> None:
    percent = await storage.new_agent(name="50% off_er \\o/")
    plain = await storage.new_agent(name="50 of offxer o")
    for name, found in {"% OFF": [percent], "f_e": [percent], "\\O": [percent], "50": [plain, percent]}.items():
        page = await listed(storage, page_size=10, name=name)
        assert [agent.id for agent in page.agents] == found


async def test_the_filter_by_is_active(storage: Any) -> None:
    active = await storage.new_agent(name="by-state")
    gone = await storage.new_agent(name="by-state", is_active=False)
    for is_active, found in {True: [active], False: [gone], None: [gone, active]}.items():
        page = await listed(storage, page_size=10, name="by-state", is_active=is_active)
        assert [agent.id for agent in page.agents] == found


async def test_a_garbled_token_names_the_cursor(storage: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await listed(storage, page_size=10, page_token="garbled")
    assert [violation.field for violation in caught.value.fields] == ["cursor"]
