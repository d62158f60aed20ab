"""Agents, as every service knows them: the values of hearth.agent.v1.Agent."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# Hearth's own agent, whose runs read documents. It is there from the migration on.
DOCUMENTS_AGENT_ID = "01900000-0000-7000-8000-000000000001"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may use before it has to end with the best answer so far; `None` is Hearth's default.

    `max_steps` counts rounds of acting, `max_seconds` the time of work without waits, `max_repeated_calls` how often
    the same tool call may be made again.
    """

    max_steps: int | None = None
    max_model_tokens: int | None = None
    max_seconds: float | None = None
    max_tool_calls: int | None = None
    max_repeated_calls: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What an agent remembers beyond a conversation, by itself; `None` is Hearth's default.

    `scope`, a MemoryScope, is for whom facts are kept, `extract` whether they are taken from what the user says, and
    `recall` how many a run is told of at most.
    """

    scope: str | None = None
    extract: bool | None = None
    recall: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClientTool:
    """A tool in the client's own process. `parameters` is a JSON Schema of an object, as JSON text: jsonb would
    reorder its properties."""

    name: str
    description: str
    parameters: str
    timeout_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What is set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, tool: dict[str, Any]) -> "ClientTool":
        """What `to_json` gave."""
        return cls(
            name=tool["name"],
            description=tool["description"],
            parameters=tool["parameters"],
            timeout_seconds=tool.get("timeout_seconds"),
        )


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How the model is called; `None` and `()` leave a thing to the model host, or to Hearth's default.

    `output_schema` is JSON text: jsonb would reorder its properties, and models fill them in their order.
    """

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
    workflow: str | None = None
    tools: tuple[ClientTool, ...] = ()
    agents: tuple[str, ...] = ()  # ids of those that it may hand sub-tasks to
    budget: Budget | None = None
    criteria: tuple[str, ...] = ()
    max_revisions: int | None = None
    approval_timeout_seconds: float | None = None
    memory: MemoryConfig | None = None
    queue: str | None = None  # in which its runs wait for a worker

    def to_json(self) -> dict[str, Any]:
        """What is set."""
        values = dataclasses.asdict(self)
        values["tools"] = tuple(tool.to_json() for tool in self.tools)
        return {name: value for name, value in values.items() if value is not None and value != ()}

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "AgentConfig":
        """What `to_json` gave. A field that this version does not know is passed over."""
        values: dict[str, Any] = {field.name: config.get(field.name) for field in dataclasses.fields(cls)}
        values["stop"] = tuple(config.get("stop", ()))
        values["fallback_models"] = tuple(config.get("fallback_models", ()))
        values["criteria"] = tuple(config.get("criteria", ()))
        if (budget := config.get("budget")) is not None:
            values["budget"] = Budget(**{field.name: budget.get(field.name) for field in dataclasses.fields(Budget)})
        if (memory := config.get("memory")) is not None:
            fields = dataclasses.fields(MemoryConfig)
            values["memory"] = MemoryConfig(**{field.name: memory.get(field.name) for field in fields})
        values["tools"] = tuple(ClientTool.from_json(tool) for tool in config.get("tools", ()))
        values["agents"] = tuple(config.get("agents", ()))
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """An agent as it is stored."""

    id: str
    name: str
    description: str
    model_name: str
    config: AgentConfig
    created_at: datetime
    updated_at: datetime
    is_active: bool
