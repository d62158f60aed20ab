"""Agents: what they are and what they must be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hearth_runtime.agents import DOCUMENTS_AGENT_ID, Agent, AgentConfig
from hearth_runtime.errors import AgentNotFound, FieldViolation, InvalidArgument
from hearth_runtime.identifiers import is_id, new_id
from hearth_runtime.memories import MemoryScope
from hearth_runtime.tasks import DOCUMENTS, RUNS

from agent_service.client_tools import unfit_client_tools

DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_MAX_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class AgentDraft:
    """What a client may set of an agent."""

    name: str
    description: str
    model_name: str
    config: AgentConfig

    def validate(self, queues: Sequence[str]) -> None:
        """Raises InvalidArgument where a run of it could not even begin, as in a queue that is none of `queues`. The
        public bounds are the gateway's."""
        wrong = [
            FieldViolation(field=field, message="must not be empty")
            for field in ("name", "model_name")
            if not getattr(self, field).strip()
        ]
        if (self.config.timeout_seconds or DEFAULT_TIMEOUT_SECONDS) <= 0:
            wrong.append(FieldViolation(field="config.timeout_seconds", message="must be more than 0"))
        if (self.config.max_retries or 0) < 0:
            wrong.append(FieldViolation(field="config.max_retries", message="must be 0 or more"))
        memory = self.config.memory
        if memory is not None and memory.scope not in (None, *MemoryScope):
            wrong.append(FieldViolation(field="config.memory.scope", message="must be agent, session or user"))
        fit = [name for name in queues if name != DOCUMENTS]
        if self.config.queue not in (None, RUNS, *fit):
            named = ", ".join(dict.fromkeys([RUNS, *fit]))
            message = f"must be one of {named}, which HEARTH_QUEUES of agent-service names"
            wrong.append(FieldViolation(field="config.queue", message=message))
        wrong += unfit_client_tools(self.config.tools, field="config.tools")
        wrong += [
            FieldViolation(field=f"config.agents[{place}]", message="must be an agent's id")
            for place, agent_id in enumerate(self.config.agents)
            if not is_id(agent_id)
        ]
        if wrong:
            raise _invalid(wrong)


class AgentStore(Protocol):
    """Where agents are kept. Raises AgentNotFound."""

    async def get(self, agent_id: str) -> Agent: ...

    async def insert(self, agent_id: str, draft: AgentDraft) -> Agent: ...

    async def update(self, agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent: ...


class Agents:
    """The rules over the store. `queues` are those that an agent may name."""

    def __init__(self, store: AgentStore, *, queues: Sequence[str]) -> None:
        self._store = store
        self._queues = queues

    async def create(self, draft: AgentDraft) -> Agent:
        """A new, active agent."""
        draft.validate(self._queues)
        await self._check_members(draft)
        return await self._store.insert(new_id(), draft)

    async def update(self, agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent:
        """Replaces what a client may set."""
        draft.validate(self._queues)
        await self._check_members(draft, of=agent_id)
        return await self._store.update(agent_id, draft, is_active=is_active)

    async def _check_members(self, draft: AgentDraft, *, of: str | None = None) -> None:
        """Raises InvalidArgument where an agent of `config.agents` could be handed nothing now, or is this one.

        What becomes of them later is for each run to see: a member that was deleted meanwhile refuses its sub-tasks.
        """
        members = draft.config.agents
        problems = await asyncio.gather(*(self._problem(member, of) for member in members))
        wrong = [
            FieldViolation(field=f"config.agents[{place}]", message=problem)
            for place, problem in enumerate(problems)
            if problem is not None
        ]
        if wrong:
            raise _invalid(wrong)

    async def _problem(self, member: str, of: str | None) -> str | None:
        if of is not None and member.lower() == of.lower():
            return "is this agent itself, which can hand itself nothing: name others"
        if member.lower() == DOCUMENTS_AGENT_ID:
            return "is Hearth's own agent, which reads documents: give this one the tool search_documents"
        try:
            agent = await self._store.get(member)
        except AgentNotFound as error:
            return f"is no agent's: {error.detail}"
        return None if agent.is_active else "was deleted: make it active again by PUT, or leave it out"


def _invalid(wrong: list[FieldViolation]) -> InvalidArgument:
    return InvalidArgument(
        "The agent is not valid: " + "; ".join(f"{w.field} {w.message}" for w in wrong), fields=wrong
    )
