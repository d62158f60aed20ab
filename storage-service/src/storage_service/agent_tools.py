"""Tools of agents: the table `agent_tools`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg import Record
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.errors import AgentReserved, ToolNameTaken, ToolNotFound, TooManyTools

from storage_service.agents import agent_not_found
from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, id_of_token, token_of_id
from storage_service.queries import load_queries

SQL = load_queries("agent_tools")

TOOLS_LIMIT = 50


@dataclass(frozen=True, kw_only=True)
class ToolDraft:
    """What a caller may set of a tool; what is None is the tool's own."""

    id: str
    agent_id: str
    name: str
    tool_name: str
    tool_config: dict[str, Any]
    secrets: bytes
    is_enabled: bool
    description: str | None
    needs_approval: bool | None
    timeout_seconds: float | None
    result_characters: int | None


class AgentTools:
    """The tools that agents were given."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, draft: ToolDraft) -> StoredTool:
        """Inserts a tool. Where the id is known already, answers that one as it is.

        Raises AgentNotFound, AgentReserved, ToolNameTaken and TooManyTools.
        """
        row = await self._database.fetchrow(SQL["insert_tool"], *_columns(draft), TOOLS_LIMIT)
        if row is None:
            row = await self._database.fetchrow(SQL["get_tool"], draft.agent_id, draft.id)
        if row is None:
            raise await self._obstacle(draft)
        return _tool(row)

    async def get(self, agent_id: str, tool_id: str) -> StoredTool:
        """Raises ToolNotFound."""
        row = await self._database.fetchrow(SQL["get_tool"], agent_id, tool_id)
        if row is None:
            raise tool_not_found(agent_id, tool_id)
        return _tool(row)

    async def list(self, agent_id: str, *, page_size: int, token: str, is_enabled: bool | None) -> Page[StoredTool]:
        """The tools of an agent, the oldest first. Raises AgentNotFound."""
        rows = await self._database.fetch(
            SQL["list_tools"], agent_id, page_size + 1, id_of_token(token), is_enabled, PAGE_BYTES
        )
        if not rows and await self._database.fetchrow(SQL["find_obstacles"], agent_id, "") is None:
            raise agent_not_found(agent_id)
        return _page(rows, page_size)

    async def update(self, draft: ToolDraft, *, old_secrets: bytes | None = None) -> StoredTool | None:
        """Replaces all that a caller may set; None where `old_secrets` are not what is there. Raises ToolNotFound and
        ToolNameTaken."""
        try:
            row = await self._database.fetchrow(SQL["update_tool"], *_columns(draft), old_secrets)
        except asyncpg.UniqueViolationError as error:
            raise _name_taken(draft) from error
        if row is None:
            await self.get(draft.agent_id, draft.id)
            return None
        return _tool(row)

    async def delete(self, agent_id: str, tool_id: str) -> None:
        """Raises ToolNotFound."""
        if await self._database.fetchrow(SQL["delete_tool"], agent_id, tool_id) is None:
            raise tool_not_found(agent_id, tool_id)

    async def list_secrets(self, *, page_size: int, token: str) -> Page[StoredTool]:
        """The tools of all agents that have secrets, by id."""
        rows = await self._database.fetch(SQL["list_secrets"], page_size + 1, id_of_token(token), PAGE_BYTES)
        return _page(rows, page_size)

    async def replace_secrets(self, agent_id: str, tool_id: str, *, old: bytes, new: bytes) -> bool:
        """Whether the old ciphertext was there and the new one is in its place."""
        return await self._database.fetchrow(SQL["replace_secrets"], agent_id, tool_id, old, new) is not None

    async def _obstacle(self, draft: ToolDraft) -> Exception:
        row = await self._database.fetchrow(SQL["find_obstacles"], draft.agent_id, draft.name)
        if row is None:
            return agent_not_found(draft.agent_id)
        if row["is_reserved"]:
            return AgentReserved(
                "This agent is Hearth's own, and takes no tools.", metadata={"agent_id": draft.agent_id}
            )
        if row["is_name_taken"]:
            return _name_taken(draft)
        return TooManyTools(
            f"The agent has {TOOLS_LIMIT} tools, the most that it may have. Delete one that it does not need.",
            metadata={"agent_id": draft.agent_id},
        )


def tool_not_found(agent_id: str, tool_id: str) -> ToolNotFound:
    return ToolNotFound(
        f"The agent has no tool {tool_id}. GET /api/v1/agents/{agent_id}/tools lists those that it has.",
        metadata={"agent_id": agent_id, "tool_id": tool_id},
    )


def _name_taken(draft: ToolDraft) -> ToolNameTaken:
    return ToolNameTaken(
        f"The agent has another tool that is called {draft.name!r}. Give this one a `name` of its own, or change that "
        f"one: GET /api/v1/agents/{draft.agent_id}/tools lists them.",
        metadata={"agent_id": draft.agent_id, "name": draft.name},
    )


def _columns(draft: ToolDraft) -> tuple[Any, ...]:
    return (
        draft.id,
        draft.agent_id,
        draft.name,
        draft.tool_name,
        draft.tool_config,
        draft.secrets,
        draft.is_enabled,
        draft.description,
        draft.needs_approval,
        draft.timeout_seconds,
        draft.result_characters,
    )


def _page(rows: Sequence[Record], page_size: int) -> Page[StoredTool]:
    tools = [_tool(row) for row in rows[:page_size]]
    more = bool(rows) and rows[0]["found"] > len(tools)
    return Page(items=tools, next_token=token_of_id(tools[-1].id) if more else "")


def _tool(row: Record) -> StoredTool:
    return StoredTool(
        id=str(row["id"]),
        agent_id=str(row["agent_id"]),
        name=row["name"],
        tool_name=row["tool_name"],
        tool_config=row["tool_config"],
        secrets=row["secrets"],
        is_enabled=row["is_enabled"],
        description=row["description"],
        needs_approval=row["needs_approval"],
        timeout_seconds=row["timeout_seconds"],
        result_characters=row["result_characters"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
