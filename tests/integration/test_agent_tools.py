"""Tools of agents with their secrets, on real storage."""

import base64
import os
from typing import Any

import pytest
from agent_service.agent_tools import AgentTools
from agent_service.secret_keys import SecretKeys
from agent_service.tool_store import StoredTools
from fakes.agent_tools import EchoKind, Kinds, tool_draft
from hearth_runtime.errors import AgentNotFound, SecretUnreadable, ToolNameTaken
from hearth_runtime.identifiers import new_id

SECRET = "sk-0123456789"
CONFIG = {"url": "http://x", "key": SECRET, "headers": {"accept": "text/plain", "cookie": SECRET}}


def new_keys() -> SecretKeys:
    return SecretKeys.parse(base64.b64encode(os.urandom(32)).decode())


async def test_runs_get_the_enabled_tools_with_their_secrets(storage: Any) -> None:
    keys = new_keys()
    stored = StoredTools(storage.channel, keys)
    tools = AgentTools(stored, Kinds(EchoKind()), keys)
    agent_id = await storage.new_agent()
    first = await tools.create(agent_id, tool_draft(tool_config=CONFIG, needs_approval=True, timeout_seconds=2.5))
    await tools.create(agent_id, tool_draft(name="off", is_enabled=False))
    last = await tools.create(agent_id, tool_draft(name="last"))
    with pytest.raises(ToolNameTaken):
        await tools.create(agent_id, tool_draft(name="last"))
    one, two = await stored.of_agent(agent_id)
    assert (one.id, one.tool_config, one.secrets) == (first.id, CONFIG, (SECRET, SECRET))
    assert (one.needs_approval, one.timeout_seconds, one.result_characters) == (True, 2.5, None)
    assert (two.id, two.name, two.secrets) == (last.id, "last", ())
    assert await stored.of_agent(await storage.new_agent()) == ()
    with pytest.raises(AgentNotFound):
        await stored.of_agent(new_id())


async def test_postgresql_never_sees_a_secret(storage: Any) -> None:
    keys = new_keys()
    agent_id = await storage.new_agent()
    tools = AgentTools(StoredTools(storage.channel, keys), Kinds(EchoKind()), keys)
    tool = await tools.create(agent_id, tool_draft(tool_config=CONFIG))
    await tools.replace(agent_id, tool.id, tool_draft(tool_config={**CONFIG, "key": "********", "url": "https://y"}))
    (row,) = await storage.sql("SELECT agent_tools::text AS row, secrets FROM agent_tools WHERE id = $1", tool.id)
    assert SECRET not in row["row"]
    assert SECRET.encode() not in row["secrets"]
    assert SECRET.encode().hex() not in row["row"]


async def test_a_ciphertext_that_is_moved_or_of_another_key_names_the_tool(storage: Any) -> None:
    keys = new_keys()
    stored = StoredTools(storage.channel, keys)
    tools = AgentTools(stored, Kinds(EchoKind()), keys)
    owner, thief = await storage.new_agent(), await storage.new_agent()
    tool = await tools.create(owner, tool_draft(tool_config=CONFIG))
    await tools.create(thief, tool_draft(name="copy"))
    await storage.sql("UPDATE agent_tools SET secrets = $1 WHERE agent_id = $2", tool.secrets, thief)
    with pytest.raises(SecretUnreadable, match="'copy'"):
        await stored.of_agent(thief)
    with pytest.raises(SecretUnreadable, match=tool.id):
        await StoredTools(storage.channel, new_keys()).of_agent(owner)
    assert (await stored.of_agent(owner))[0].tool_config == CONFIG
