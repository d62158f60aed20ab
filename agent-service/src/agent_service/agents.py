"""Agents: what they are and what they must be."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.identifiers import new_id

DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_MAX_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How the model is called; `None` and `()` leave a thing to the model host, or to the default above."""

    system_prompt: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    context_tokens: int | None = None
    timeout_seconds: float | None = None
    max_retries: int | None = None
    fallback_models: tuple[str, ...] = ()
    output_schema: str | None = None
    keep_alive: str | None = None


@dataclass(frozen=True, kw_only=True)
class AgentDraft:
    """What a client may set of an agent."""

    name: str
    description: str
    model_name: str
    config: AgentConfig

    def validate(self) -> None:
        """Raises InvalidArgument where a run of it could not even begin. The public bounds are the gateway's."""
        wrong = [
            FieldViolation(field=field, message="must not be empty")
            for field in ("name", "model_name")
            if not getattr(self, field).strip()
        ]
        if (self.config.timeout_seconds or DEFAULT_TIMEOUT_SECONDS) <= 0:
            wrong.append(FieldViolation(field="config.timeout_seconds", message="must be more than 0"))
        if (self.config.max_retries or 0) < 0:
            wrong.append(FieldViolation(field="config.max_retries", message="must be 0 or more"))
        if wrong:
            raise InvalidArgument(
                "The agent is not valid: " + "; ".join(f"{w.field} {w.message}" for w in wrong), fields=wrong
            )


@dataclass(frozen=True, kw_only=True)
class Agent:
    """An agent as it is stored."""

    id: str
    name: str
    description: str
    model_name: str
    config: AgentConfig
    created_at: datetime | None
    updated_at: datetime | None
    is_active: bool


class AgentStore(Protocol):
    """Where agents are kept. Raises AgentNotFound."""

    async def insert(self, agent: Agent) -> Agent: ...

    async def get(self, agent_id: str) -> Agent: ...

    async def page(
        self, *, size: int, token: str, is_active: bool | None, name: str | None
    ) -> tuple[tuple[Agent, ...], str]: ...

    async def update(self, agent: Agent) -> Agent: ...

    async def deactivate(self, agent_id: str) -> None: ...


class Agents:
    """The rules over the store."""

    def __init__(self, store: AgentStore) -> None:
        self._store = store

    async def create(self, draft: AgentDraft) -> Agent:
        """A new, active agent."""
        return await self._store.insert(_agent(new_id(), draft, is_active=True))

    async def update(self, agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent:
        """Replaces what a client may set."""
        return await self._store.update(_agent(agent_id, draft, is_active=is_active))


def _agent(agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent:
    draft.validate()
    return Agent(
        id=agent_id,
        name=draft.name,
        description=draft.description,
        model_name=draft.model_name,
        config=draft.config,
        created_at=None,
        updated_at=None,
        is_active=is_active,
    )
