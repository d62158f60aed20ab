"""A kind of tool, and a store of agents' tools, in memory."""

from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from agent_service.agent_tools import ToolDraft
from agent_service.tool import Tool, ToolHost, ToolKind, ToolResult, ToolScope, ToolSpec
from agent_service.tool_kinds import ToolKinds
from agent_service.tool_store import StoredTools
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.errors import AgentNotFound, ToolNameTaken, ToolNotFound, Unavailable

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "pattern": "^https?:"},
        "key": {"$ref": "#/$defs/secret"},
        "headers": {
            "type": "object",
            "properties": {"accept": {"type": "string"}},
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": {"type": "string", "writeOnly": True},
        },
        "servers": {"type": "array", "items": {"properties": {"token": {"writeOnly": True}}}},
        "auth": {"anyOf": [{"type": "string"}, {"properties": {"password": {"type": "string", "writeOnly": True}}}]},
    },
    "required": ["url"],
    "additionalProperties": False,
    "$defs": {"secret": {"type": "string", "minLength": 8, "writeOnly": True}},
}


class Echo:
    """A tool that sends back what its configuration holds, as a server does that echoes its request."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.config = config
        self.spec = ToolSpec(name=name, description="Echoes.", parameters={"type": "object"}, repeatable=True)

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        if "raise" in arguments:
            raise {"own": Unavailable(f"No answer from {self.config}."), "other": ValueError(str(self.config))}[
                arguments["raise"]
            ]
        return ToolResult(content=str(self.config), data={"sent": [self.config]})


class EchoKind:
    name = "echo"
    description = "Echoes."
    config_schema = SCHEMA

    def __init__(self, *names: str) -> None:
        self._names = names or ("echo",)
        self.scopes: list[ToolScope] = []

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        self.scopes.append(scope)
        if "unreachable" in config["url"]:
            raise Unavailable(f"Nothing answers at {config['url']}?key={config['key']}")
        yield [Echo(name, config) for name in self._names]


class Kinds(ToolKinds):
    """These kinds and no others."""

    def __init__(self, *kinds: ToolKind) -> None:
        super().__init__()
        self._entry_points = {}
        self._loaded = {kind.name: kind for kind in kinds}

    def all(self) -> tuple[ToolKind, ...]:
        return tuple(self._loaded.values())


class Rows(StoredTools):
    """The table `agent_tools`."""

    def __init__(self, agents: Container[str] | None = None) -> None:
        self.rows: dict[str, StoredTool] = {}
        self._agents = agents

    async def insert(self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes) -> StoredTool:
        self._check(agent_id)
        if any(row.agent_id == agent_id and row.name == draft.name for row in self.rows.values()):
            raise ToolNameTaken
        return self.put(agent_id, tool_id, draft, secrets)

    def put(self, agent_id: str, tool_id: str, draft: ToolDraft, secrets: bytes) -> StoredTool:
        """Inserts the row, or replaces it."""
        now = datetime.now(UTC)
        row = StoredTool(
            id=tool_id, agent_id=agent_id, secrets=secrets, created_at=now, updated_at=now, **asdict(draft)
        )
        self.rows[tool_id] = row
        return row

    async def get(self, agent_id: str, tool_id: str) -> StoredTool:
        row = self.rows.get(tool_id)
        if row is None or row.agent_id != agent_id:
            raise ToolNotFound(f"The agent has no tool {tool_id}.")
        return row

    async def page(
        self, agent_id: str, *, size: int, token: str, is_enabled: bool | None = None
    ) -> tuple[tuple[StoredTool, ...], str]:
        self._check(agent_id)
        rows = [row for row in self.rows.values() if row.agent_id == agent_id and row.id > token]
        return tuple(rows[:size]), rows[size - 1].id if len(rows) > size else ""

    async def update(
        self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes, old_secrets: bytes | None
    ) -> StoredTool | None:
        await self.get(agent_id, tool_id)
        if old_secrets not in (None, self.rows[tool_id].secrets):
            return None
        return self.put(agent_id, tool_id, draft, secrets)

    async def delete(self, agent_id: str, tool_id: str) -> None:
        await self.get(agent_id, tool_id)
        del self.rows[tool_id]

    def _check(self, agent_id: str) -> None:
        if self._agents is not None and agent_id not in self._agents:
            raise AgentNotFound(f"There is no agent {agent_id}.")


def tool_draft(**fields: Any) -> ToolDraft:
    return ToolDraft(
        **{
            "name": "",
            "tool_name": "echo",
            "tool_config": {"url": "http://x"},
            "is_enabled": True,
            "description": None,
            "needs_approval": None,
            "timeout_seconds": None,
            "result_characters": None,
            **fields,
        }
    )
