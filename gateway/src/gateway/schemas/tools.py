"""Tools: the kinds that there are, those that agents are given, and calling one by hand."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.schemas.fields import STORABLE, WHOLE, Answer, Body, Id
from gateway.schemas.json_value import storable_json

MAX_CONFIG_BYTES = 256 * 1024
MAX_ARGUMENTS_BYTES = 256 * 1024
KIND_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

ToolConfig = Annotated[dict[str, Any], AfterValidator(storable_json(MAX_CONFIG_BYTES))]
ToolArguments = Annotated[dict[str, Any], AfterValidator(storable_json(MAX_ARGUMENTS_BYTES))]


class ToolDraft(Body):
    """A tool that an agent is given. What is left out, or null, of the last four is the tool's own."""

    tool_name: Annotated[str, Field(pattern=KIND_PATTERN)] = Field(
        description="The kind of tool: one that `GET /api/v1/tools` lists", examples=["calculator"]
    )
    name: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        None,
        description="What the agent calls it, unique within the agent; the kind's name if left out. A kind that gives "
        "several tools has it before their names",
        examples=["sums"],
    )
    tool_config: ToolConfig = Field(
        default_factory=dict,
        description="What the kind's `config_schema` allows (256 KiB at most). What it marks as `writeOnly` is stored "
        "encrypted and shown as `********`; sent so again, it keeps what is stored",
        examples=[{}],
    )
    is_enabled: bool = Field(True, description="Whether runs have it")
    description: Annotated[str, Field(max_length=4000), STORABLE] | None = Field(
        None, description="What the model is told of it, where the kind gives one tool", examples=["Adds and so on."]
    )
    needs_approval: bool | None = Field(None, description="Whether a person must approve each call", examples=[False])
    timeout_seconds: float | None = Field(None, gt=0, le=3600, description="How long a call may take", examples=[10])
    result_characters: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = Field(
        None, description="The longest result; what is longer is cut, and says so", examples=[4000]
    )


class AgentTool(Answer):
    """A tool that an agent has. What is null of the last four is the tool's own."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    agent_id: str = Field(json_schema_extra={"format": "uuid"})
    name: str
    tool_name: str
    tool_config: dict[str, Any] = Field(description="With `********` in the place of each secret")
    is_enabled: bool
    description: str | None
    needs_approval: bool | None
    timeout_seconds: float | None
    result_characters: int | None
    created_at: datetime
    updated_at: datetime


class ToolPage(Answer):
    """A page of an agent's tools, the oldest first."""

    items: list[AgentTool]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class ToolKind(Answer):
    """A kind of tool that agents can be given."""

    name: str
    description: str
    config_schema: dict[str, Any] = Field(description="The JSON Schema of `tool_config`; `writeOnly` marks secrets")


class ToolKinds(Answer):
    """The kinds that are installed, by their names."""

    items: list[ToolKind]


class ToolDescription(Answer):
    """A tool as a model sees it, and its bounds."""

    name: str
    description: str
    parameters: dict[str, Any] = Field(description="The JSON Schema of its arguments")
    repeatable: bool = Field(description="Whether a second call does no harm")
    needs_approval: bool
    timeout_seconds: float
    result_characters: int


class ToolCheck(Answer):
    """Whether a run could open the tool now, and what it would give the run."""

    is_healthy: bool
    detail: str = Field(description="What is wrong and what to do; empty where nothing is")
    tools: list[ToolDescription]
    duration_seconds: float


class Trial(Body):
    """What to try."""

    agent_id: Id | None = Field(
        None,
        description="For which agent: then the path may also name a tool that it has, and its configuration is taken",
        examples=["0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e"],
    )
    tool_config: ToolConfig | None = Field(
        None,
        description="The configuration; what is stored for the agent, or none, if left out. `********` stands for a "
        "secret that is stored for the agent",
        examples=[{}],
    )
    tool: Annotated[str, Field(min_length=1, max_length=200), STORABLE] | None = Field(
        None, description="Which one, where the kind gives several", examples=["calculator"]
    )
    arguments: ToolArguments | None = Field(
        None,
        description="What to call it with. Left out, nothing is called, and the answer's `tools` tells what there is",
        examples=[{"expression": "6 * 7"}],
    )


class TrialResult(Answer):
    """What the call gave; or, where nothing was called, what there is to call."""

    tool: str | None = Field(description="What was called")
    content: str | None = Field(description="What a model would be told; null where nothing was called")
    is_error: bool = Field(description="Whether the call failed; `content` says how")
    data: Any = Field(description="The result for programs, where the tool gives one")
    duration_seconds: float
    tools: list[ToolDescription] | None = Field(description="What there is to call; null where something was called")
