"""Tools of agents: their configuration by the kind's schema, and the secrets in it, which nobody sees again."""

import base64
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agent_service.agent_tools import AgentTools, ToolDraft, open_secrets
from agent_service.opened_tools import open_tools
from agent_service.secret_fields import MARKER, secret_places
from agent_service.secret_keys import SecretKeys
from agent_service.settings import ApiSettings
from agent_service.tool import Tool, ToolScope
from agent_service.tool_calling import call_tool
from fakes.agent_tools import SCHEMA, EchoKind, Kinds, Rows, tool_draft
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.errors import (
    HearthError,
    InvalidArgument,
    SecretKeyMissing,
    SecretUnreadable,
    ToolKindNotFound,
    Unavailable,
)
from pydantic import SecretStr, ValidationError

SECRET = "sk-0123456789"
AGENT = "01900000-0000-7000-8000-00000000000a"


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def keys() -> SecretKeys:
    return SecretKeys.parse(new_key())


@pytest.fixture
def tools(rows: Rows, keys: SecretKeys) -> AgentTools:
    return AgentTools(rows, Kinds(EchoKind()), keys)


async def test_a_tool_is_called_as_its_kind_unless_it_has_a_name(tools: AgentTools) -> None:
    assert (await tools.create(AGENT, tool_draft())).name == "echo"
    assert (await tools.create(AGENT, tool_draft(name="mine"))).name == "mine"


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({}, "tool_config", '"url" is a required property'),
        ({"url": "ftp://x"}, "tool_config.url", "does not match"),
        ({"url": "http://x", "headers": {"accept": 5}}, "tool_config.headers.accept", "not of type"),
        ({"url": "http://x", "uri": 1}, "tool_config", "'uri' was unexpected"),
        ({"url": "http://x", "key": "short"}, "tool_config.key", "shorter than 8"),
        ({"url": "http://x", "key": MARKER}, "tool_config.key", "give the secret itself"),
    ],
)
async def test_what_is_wrong_with_the_configuration_is_named(
    tools: AgentTools, config: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await tools.create(AGENT, tool_draft(tool_config=config))
    (violation,) = caught.value.fields
    assert violation.field == field
    assert words in violation.message


async def test_what_is_wrong_beside_the_configuration_is_named(tools: AgentTools) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await tools.create(AGENT, tool_draft(name="two words", timeout_seconds=0, result_characters=0))
    assert [f.field for f in caught.value.fields] == ["name", "timeout_seconds", "result_characters"]
    with pytest.raises(ToolKindNotFound, match="There are: none"):
        await tools.create(AGENT, tool_draft(tool_name="nope"))


async def test_no_error_shows_a_secret(tools: AgentTools) -> None:
    for config in (
        {"url": 5, "key": SECRET},
        {"url": "http://x", "key": {"value": SECRET}},
        {"url": "http://x", "key": SECRET, "headers": {"authorization": {"value": SECRET}}},
        {"url": "http://x", "auth": {"password": [SECRET]}},
    ):
        with pytest.raises(InvalidArgument) as caught:
            await tools.create(AGENT, tool_draft(tool_config=config))
        assert SECRET not in caught.value.detail
        assert all(SECRET not in violation.message for violation in caught.value.fields)


def test_secrets_are_found_however_deep() -> None:
    config = {
        "url": "u",
        "key": "k",
        "headers": {"accept": "a", "x-trace": "b", "authorization": "c"},
        "servers": [{"token": 1}, {"other": 2}, {"token": None}],
        "auth": {"user": "u", "password": "p"},
    }
    assert set(secret_places(SCHEMA, config)) == {
        ("key",), ("headers", "authorization"), ("servers", 0, "token"), ("auth", "password")
    }  # fmt: skip
    endless = {"allOf": [{"$ref": "#"}], "properties": {"a": {"$ref": "#"}, "b": {"writeOnly": True}}}
    assert secret_places(endless, {"a": {"b": 1}}) == (("a", "b"),)


async def test_a_secret_is_stored_encrypted_and_opened_for_runs(
    tools: AgentTools, rows: Rows, keys: SecretKeys
) -> None:
    config = {"url": "http://x", "key": SECRET, "headers": {"accept": "text/plain", "cookie": SECRET}}
    stored = await tools.create(AGENT, tool_draft(tool_config=config))
    assert stored.tool_config == {
        "url": "http://x", "key": MARKER, "headers": {"accept": "text/plain", "cookie": MARKER}
    }  # fmt: skip
    assert SECRET.encode() not in stored.secrets
    opened = open_secrets(keys, stored)
    assert opened.tool_config == config
    assert SECRET not in repr(opened)
    assert SECRET not in repr(tool_draft(tool_config=config))


async def test_the_marker_keeps_a_secret_and_anything_else_replaces_it(
    tools: AgentTools, rows: Rows, keys: SecretKeys
) -> None:
    config = {"url": "http://x", "key": SECRET, "headers": {"cookie": "c00kie"}}
    stored = await tools.create(AGENT, tool_draft(tool_config=config))
    changed = {"url": "http://y", "key": MARKER, "headers": {"cookie": "another"}}
    after = await tools.replace(AGENT, stored.id, tool_draft(tool_config=changed))
    assert open_secrets(keys, after).tool_config == {
        "url": "http://y", "key": SECRET, "headers": {"cookie": "another"}
    }  # fmt: skip
    with pytest.raises(InvalidArgument) as caught:
        await tools.replace(AGENT, stored.id, tool_draft(tool_config={"url": "u:", "headers": {"other": MARKER}}))
    assert caught.value.fields[0].field == "tool_config.headers.other"
    bare = await tools.replace(AGENT, stored.id, tool_draft())
    assert bare.secrets == b""


class ContestedRows(Rows):
    """Rows that others change as soon as somebody has read them."""

    def __init__(self) -> None:
        super().__init__()
        self.others: list[Callable[[], Awaitable[object]]] = []

    async def get(self, agent_id: str, tool_id: str) -> StoredTool:
        found = await super().get(agent_id, tool_id)
        if self.others:
            await self.others.pop(0)()
        return found


async def test_the_marker_keeps_the_secret_that_another_change_has_just_stored(rows: Rows, keys: SecretKeys) -> None:
    contested = ContestedRows()
    contested.rows = rows.rows
    kinds = Kinds(EchoKind())
    others = AgentTools(rows, kinds, keys)

    def changed(**fields: Any) -> ToolDraft:
        return tool_draft(tool_config={"url": "http://x", **fields})

    stored = await others.create(AGENT, changed(key="first-secret"))
    contested.others = [
        lambda: others.replace(AGENT, stored.id, changed(key="second-secret")),
        lambda: others.replace(AGENT, stored.id, changed(key="third-secret")),
    ]
    after = await AgentTools(contested, kinds, keys).replace(AGENT, stored.id, changed(key=MARKER, auth="user"))
    assert open_secrets(keys, after).tool_config == {"url": "http://x", "key": "third-secret", "auth": "user"}
    contested.others = [lambda: others.replace(AGENT, stored.id, changed())]
    with pytest.raises(InvalidArgument, match="give the secret itself"):
        await AgentTools(contested, kinds, keys).replace(AGENT, stored.id, changed(key=MARKER))


async def test_ciphertext_is_of_its_row_alone(tools: AgentTools, rows: Rows, keys: SecretKeys) -> None:
    config = {"url": "http://x", "key": SECRET}
    one = await tools.create(AGENT, tool_draft(tool_config=config))
    other = await tools.create(AGENT, tool_draft(name="other", tool_config=config))
    assert one.secrets != other.secrets
    moved = rows.put(AGENT, other.id, tool_draft(tool_config=other.tool_config), one.secrets)
    with pytest.raises(SecretUnreadable):
        open_secrets(keys, moved)
    for damaged in (one.secrets[:-1], b"\x02" + one.secrets[1:], b"\x01", one.secrets[:8]):
        with pytest.raises(SecretUnreadable):
            open_secrets(keys, rows.put(AGENT, one.id, tool_draft(), damaged))


async def test_keys_are_changed_by_putting_the_new_one_first(rows: Rows) -> None:
    old, new = new_key(), new_key()
    kinds = Kinds(EchoKind())
    stored = await AgentTools(rows, kinds, SecretKeys.parse(old)).create(
        AGENT, tool_draft(tool_config={"url": "http://x", "key": SECRET})
    )
    both = SecretKeys.parse(f"{new}, {old}")
    assert open_secrets(both, stored).tool_config["key"] == SECRET
    marked = tool_draft(tool_config={"url": "http://x", "key": MARKER})
    again = await AgentTools(rows, kinds, both).replace(AGENT, stored.id, marked)
    assert open_secrets(SecretKeys.parse(new), again).tool_config["key"] == SECRET
    with pytest.raises(SecretUnreadable) as caught:
        open_secrets(SecretKeys.parse(old), again)
    assert "'echo'" in caught.value.detail
    assert f"PUT /api/v1/agents/{AGENT}/tools/{stored.id}" in caught.value.detail
    # Whose secret cannot be read any more can still be given another.
    await AgentTools(rows, kinds, SecretKeys.parse(old)).replace(
        AGENT, stored.id, tool_draft(tool_config={"url": "http://x", "key": "another-secret"})
    )


async def test_without_a_key_only_tools_without_secrets_are_made(rows: Rows) -> None:
    tools = AgentTools(rows, Kinds(EchoKind()), SecretKeys.parse(None))
    await tools.create(AGENT, tool_draft())
    with pytest.raises(SecretKeyMissing, match="openssl rand -base64 32"):
        await tools.create(AGENT, tool_draft(tool_config={"url": "http://x", "key": SECRET}))


def test_a_key_that_is_none_is_told_of_and_not_shown() -> None:
    for text in ("nonsense!", base64.b64encode(b"short-secret").decode(), "ä"):
        with pytest.raises(ValidationError) as caught:
            ApiSettings(secret_key=SecretStr(text))
        assert "openssl rand -base64 32" in caught.value.errors()[0]["msg"]
        assert text not in caught.value.errors()[0]["msg"]
    key = os.urandom(32)
    for text in (base64.urlsafe_b64encode(key).decode(), base64.b64encode(key).decode().rstrip("=")):
        assert text not in repr(ApiSettings(secret_key=SecretStr(text)))


async def opened(keys: SecretKeys, stored: StoredTool, kind: EchoKind) -> list[Tool]:
    """The tools of the row, which stay usable here after they are closed."""
    none: Any = None
    scope = ToolScope(agent=none, session_id=None, task_id=None, requests=None)
    async with open_tools(open_secrets(keys, stored), Kinds(kind), scope, none) as given:
        return list(given)


async def test_a_row_gives_its_tools_their_names_and_bounds(tools: AgentTools, keys: SecretKeys) -> None:
    one = await tools.create(
        AGENT,
        tool_draft(name="mine", description="Mine.", needs_approval=True, timeout_seconds=5, result_characters=9),
    )
    kind = EchoKind()
    (tool,) = await opened(keys, one, kind)
    assert [scope.timeout_seconds for scope in kind.scopes] == [5]
    assert (tool.spec.name, tool.spec.description) == ("mine", "Mine.")
    assert (tool.spec.needs_approval, tool.spec.timeout_seconds, tool.spec.result_characters) == (True, 5, 9)
    several = await opened(keys, one, EchoKind("read", "write"))
    assert [t.spec.name for t in several] == ["mine_read", "mine_write"]
    assert several[0].spec.description == "Echoes."
    plain = await tools.create(AGENT, tool_draft())
    several = await opened(keys, plain, EchoKind("read", "write"))
    assert [t.spec.name for t in several] == ["read", "write"]
    assert several[0].spec.needs_approval is False


async def test_long_names_stay_apart_behind_the_rows(tools: AgentTools, keys: SecretKeys) -> None:
    row = await tools.create(AGENT, tool_draft(name="mine"))
    long = "x" * 62
    several = await opened(keys, row, EchoKind(long + "_1", long + "_2", "x" * 64))
    names = [t.spec.name for t in several]
    assert names == [f"mine_{'x' * 59}", f"mine_{'x' * 57}_2", f"mine_{'x' * 57}_3"]


async def test_a_secret_that_comes_back_is_hidden(tools: AgentTools, keys: SecretKeys) -> None:
    stored = await tools.create(AGENT, tool_draft(tool_config={"url": "http://x", "key": SECRET}))
    (tool,) = await opened(keys, stored, EchoKind())
    result = await call_tool(tool, {}, call_id="c")
    assert SECRET not in str(result)
    assert result.data == {"sent": [{"url": "http://x", "key": MARKER}]}
    with pytest.raises(Unavailable) as caught:
        await call_tool(tool, {"raise": "own"}, call_id="c")
    assert MARKER in caught.value.detail
    assert SECRET not in caught.value.detail
    assert caught.value.__suppress_context__
    result = await call_tool(tool, {"raise": "other"}, call_id="c")
    assert SECRET not in result.content
    away = await tools.create(AGENT, tool_draft(name="b", tool_config={"url": "http://unreachable", "key": SECRET}))
    with pytest.raises(HearthError) as refused:
        await opened(keys, away, EchoKind())
    assert refused.value.detail == f"Nothing answers at http://unreachable?key={MARKER}"


async def test_a_key_that_comes_back_without_its_scheme_is_hidden(tools: AgentTools, keys: SecretKeys) -> None:
    said = f"https://x/?error=Incorrect key {SECRET}. Send it as Bearer b."
    headers = {"authorization": f"Bearer {SECRET}", "cookie": "a b"}
    stored = await tools.create(AGENT, tool_draft(tool_config={"url": said, "headers": headers}))
    (tool,) = await opened(keys, stored, EchoKind())
    result = await call_tool(tool, {}, call_id="c")
    assert result.data["sent"][0]["url"] == said.replace(SECRET, MARKER)
    with pytest.raises(Unavailable) as caught:
        await call_tool(tool, {"raise": "own"}, call_id="c")
    assert SECRET not in caught.value.detail
