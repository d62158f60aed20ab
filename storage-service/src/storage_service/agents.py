"""Agents: the table `agents`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record
from hearth_runtime.agents import Agent, AgentConfig
from hearth_runtime.errors import AgentInactive, AgentNotFound, AgentReserved

from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, id_of_token, token_of_id
from storage_service.queries import containing, load_queries

SQL = load_queries("agents")


@dataclass(frozen=True, kw_only=True)
class AgentDraft:
    """What a caller may set of an agent. No config is one that leaves all open."""

    id: str
    name: str
    description: str
    model_name: str
    config: AgentConfig | None
    is_active: bool


class Agents:
    """The agents that there are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, draft: AgentDraft) -> Agent:
        """Inserts an agent. Where the id is known already, answers that one as it is."""
        row = await self._database.fetchrow(SQL["insert_agent"], *_columns(draft))
        return await self.get(draft.id) if row is None else _agent(row)

    async def get(self, agent_id: str) -> Agent:
        """Raises AgentNotFound."""
        return _found(await self._database.fetchrow(SQL["get_agent"], agent_id), agent_id)

    async def list(self, *, page_size: int, token: str, is_active: bool | None, name: str | None) -> Page[Agent]:
        """The agents whose name contains `name`, in any case, the newest first."""
        pattern = None if name is None else containing(name)
        rows = await self._database.fetch(
            SQL["list_agents"], page_size + 1, id_of_token(token), is_active, pattern, PAGE_BYTES
        )
        agents = [_agent(row) for row in rows[:page_size]]
        more = bool(rows) and rows[0]["found"] > len(agents)
        return Page(items=agents, next_token=token_of_id(agents[-1].id) if more else "")

    async def update(self, draft: AgentDraft) -> Agent:
        """Replaces all that a caller may set. Raises AgentNotFound, AgentReserved."""
        row = await self._database.fetchrow(SQL["update_agent"], *_columns(draft))
        if row is None:
            raise await self._obstacle(draft.id)
        return _agent(row)

    async def deactivate(self, agent_id: str) -> None:
        """Makes new runs impossible; again is harmless. Raises AgentNotFound, AgentReserved."""
        if await self._database.fetchrow(SQL["deactivate_agent"], agent_id) is None:
            raise await self._obstacle(agent_id)

    async def _obstacle(self, agent_id: str) -> Exception:
        await self.get(agent_id)
        return AgentReserved("This agent is Hearth's own, and cannot be changed.", metadata={"agent_id": agent_id})


def agent_not_found(agent_id: str) -> AgentNotFound:
    return AgentNotFound(
        f"There is no agent {agent_id}. GET /api/v1/agents lists those that there are.",
        metadata={"agent_id": agent_id},
    )


def agent_inactive(agent_id: str) -> AgentInactive:
    return AgentInactive(
        f"Agent {agent_id} was deleted. Set its is_active to true with PUT, or run another agent.",
        metadata={"agent_id": agent_id},
    )


def agent_of_history(agent: dict[str, Any]) -> Agent:
    """The agent in the column `agent` of a task's history, which is a row of the table `agents`."""
    return Agent(
        id=agent["id"],
        name=agent["name"],
        description=agent["description"],
        model_name=agent["model_name"],
        config=AgentConfig.from_json(agent["config"]),
        created_at=datetime.fromisoformat(agent["created_at"]),
        updated_at=datetime.fromisoformat(agent["updated_at"]),
        is_active=agent["is_active"],
    )


def _columns(draft: AgentDraft) -> tuple[Any, ...]:
    config = {} if draft.config is None else draft.config.to_json()
    return draft.id, draft.name, draft.description, draft.model_name, config, draft.is_active


def _found(row: Record | None, agent_id: str) -> Agent:
    if row is None:
        raise agent_not_found(agent_id)
    return _agent(row)


def _agent(row: Record) -> Agent:
    return Agent(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        model_name=row["model_name"],
        config=AgentConfig.from_json(row["config"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        is_active=row["is_active"],
    )
