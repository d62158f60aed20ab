"""Tools of agents with their secrets, on real storage."""

import base64
import os
from typing import Any

import pytest
from agent_service.agent_tools import AgentTools
from agent_service.secret_keys import SecretKeys
from agent_service.secret_rotation import Rotated, SecretRotation
from agent_service.tool_store import StoredTools
from fakes.agent_tools import EchoKind, Kinds, tool_draft
from hearth_runtime.errors import AgentNotFound, SecretKeyMissing, SecretUnreadable, ToolNameTaken
from hearth_runtime.identifiers import new_id

SECRET = "sk-0123456789"
CONFIG = {"url": "http://x", "key": SECRET, "headers": {"accept": "text/plain", "cookie": SECRET}}


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def new_keys() -> SecretKeys:
    return SecretKeys.parse(new_key())


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


async def rotated(storage: Any, keys: str) -> Rotated:
    """What came of all pages: those of other tests' tools are among them."""
    parsed = SecretKeys.parse(keys)
    rotation = SecretRotation(StoredTools(storage.channel, parsed), parsed)
    count, current, token = 0, 0, ""
    unreadable: list[Any] = []
    while True:
        page = await rotation.rotate(token)
        count, current, token = count + page.rotated_count, current + page.current_count, page.next_token
        unreadable += page.unreadable
        if not token:
            return Rotated(rotated_count=count, current_count=current, unreadable=tuple(unreadable), next_token="")


async def test_after_a_rotation_the_new_key_is_enough(storage: Any) -> None:
    await storage.sql("DELETE FROM agent_tools")
    old, new = new_key(), new_key()
    keys, strangers = SecretKeys.parse(old), new_keys()
    tools = AgentTools(StoredTools(storage.channel, keys), Kinds(EchoKind()), keys)
    others = AgentTools(StoredTools(storage.channel, strangers), Kinds(EchoKind()), strangers)
    agents = [await storage.new_agent() for _ in range(3)]
    first = await tools.create(agents[0], tool_draft(tool_config=CONFIG))
    await tools.create(agents[0], tool_draft(name="plain"))
    await tools.create(agents[1], tool_draft(tool_config=CONFIG))
    lost = await others.create(agents[2], tool_draft(tool_config=CONFIG))

    done = await rotated(storage, f"{new},{old}")
    assert (done.rotated_count, done.current_count, [tool.id for tool in done.unreadable]) == (2, 0, [lost.id])
    alone = StoredTools(storage.channel, SecretKeys.parse(new))
    for agent_id in agents[:2]:
        assert (await alone.of_agent(agent_id))[0].tool_config == CONFIG
    after = await alone.get(agents[0], first.id)
    assert (after.updated_at, after.tool_config) == (first.updated_at, first.tool_config)
    again = await rotated(storage, f"{new},{old}")
    assert (again.rotated_count, again.current_count, len(again.unreadable)) == (0, 2, 1)
    with pytest.raises(SecretKeyMissing):
        await rotated(storage, "")


async def test_a_rotation_undoes_no_change_that_was_made_meanwhile(storage: Any) -> None:
    await storage.sql("DELETE FROM agent_tools")
    old, new = new_key(), new_key()
    keys, both = SecretKeys.parse(old), SecretKeys.parse(f"{new},{old}")
    tools = AgentTools(StoredTools(storage.channel, keys), Kinds(EchoKind()), keys)
    agent_id = await storage.new_agent()
    tool = await tools.create(agent_id, tool_draft(tool_config=CONFIG))
    changed = {**CONFIG, "key": "sk-9876543210"}

    class Interrupted(StoredTools):
        """Somebody stores other secrets, with the old key, after they were listed."""

        async def page_of_secrets(self, *, token: str) -> Any:
            page = await super().page_of_secrets(token=token)
            await tools.replace(agent_id, tool.id, tool_draft(tool_config=changed))
            return page

    page = await SecretRotation(Interrupted(storage.channel, both), both).rotate("")
    assert (page.rotated_count, page.current_count, page.unreadable) == (1, 0, ())
    (kept,) = await StoredTools(storage.channel, SecretKeys.parse(new)).of_agent(agent_id)
    assert kept.tool_config == changed
