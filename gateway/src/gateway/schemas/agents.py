"""Agents and how they call their model."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.schemas.client_tools import ClientTools
from gateway.schemas.duration import as_duration
from gateway.schemas.fields import STORABLE, WHOLE, Answer, Body, Id, MemoryScope, ModelName
from gateway.schemas.output_schema import check_output_schema

MAX_PROMPT_CHARACTERS = 200_000


class Budget(Body):
    """What a run may use before it has to end with the best answer so far. Checked before each step."""

    max_steps: Annotated[int, Field(ge=1, le=1000), WHOLE] | None = Field(
        None, description="Rounds of acting, or waves of a plan; 10 if left out", examples=[10]
    )
    max_model_tokens: Annotated[int, Field(ge=1, le=100_000_000), WHOLE] | None = Field(
        None, description="Tokens of all prompts and answers together; 200,000 if left out", examples=[20_000]
    )
    max_seconds: float | None = Field(
        None, gt=0, le=604_800, description="Time of work; waiting for people, clients or other agents does not count"
    )
    max_tool_calls: Annotated[int, Field(ge=0, le=1000), WHOLE] | None = Field(
        None, description="Tool calls; 25 if left out", examples=[5]
    )
    max_repeated_calls: Annotated[int, Field(ge=0, le=1000), WHOLE] | None = Field(
        None, description="How often the same call, with the same arguments, may be made again; 1 if left out"
    )


class AgentMemory(Body):
    """What an agent remembers beyond a conversation, by itself; besides, it may have the tools `remember` and
    `recall`."""

    scope: MemoryScope | None = Field(
        None,
        description="For whom facts are kept: all runs of the agent (if left out), one session, or the `user` that a "
        "run names; where a run has no such session or user nothing is kept of it",
        examples=["user"],
    )
    extract: bool | None = Field(
        None, description="Whether lasting facts are taken from what the user says; false if left out", examples=[True]
    )
    recall: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="How many facts at most a run is told of before it begins; 5 if left out", examples=[5]
    )


class AgentConfig(Body):
    """How the model is called. What is left out is up to Hearth's default, or to the model's own."""

    system_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS), STORABLE] | None = Field(
        None, description="What the model is told before every conversation", examples=["You are brief."]
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="How freely tokens are drawn: 0 takes the likeliest", examples=[0.7]
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="Only the likeliest tokens that together have this probability", examples=[0.9]
    )
    seed: Annotated[int, Field(ge=-(2**31), lt=2**31), WHOLE] | None = Field(
        None, description="The same seed and input give the same output", examples=[42]
    )
    max_tokens: Annotated[int, Field(ge=1, le=131_072), WHOLE] | None = Field(
        None, description="The longest answer, in tokens", examples=[512]
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=1000), STORABLE]] | None = Field(
        None, max_length=8, description="Texts at which generating stops", examples=[["\n\n"]]
    )
    context_tokens: Annotated[int, Field(ge=128, le=1_048_576), WHOLE] | None = Field(
        None, description="The size of the model's context, in tokens", examples=[4096]
    )
    timeout_seconds: float | None = Field(
        None,
        ge=1,
        le=86_400,
        description="How long one attempt of a run may take; 600 if left out",
        examples=[120],
    )
    max_retries: Annotated[int, Field(ge=0, le=10), WHOLE] | None = Field(
        None,
        description="How often a run is repeated after an error that may pass; 3 if left out",
        examples=[3],
    )
    fallback_models: list[ModelName] | None = Field(
        None,
        max_length=8,
        description="Models that are tried in order where the first is not there or does not answer",
        examples=[["llama3.2:1b"]],
    )
    output_schema: Annotated[dict[str, Any], AfterValidator(check_output_schema)] | None = Field(
        None,
        description="A JSON Schema (2020-12, 64 KiB at most): the answer is JSON that it allows, in `output.data`",
        examples=[{"type": "object", "properties": {"colours": {"type": "array", "items": {"type": "string"}}}}],
    )
    keep_alive: Annotated[str, BeforeValidator(as_duration, json_schema_input_type=str | float)] | None = Field(
        None,
        description=(
            'How long the host keeps the model loaded after a run: a duration such as "5m" or "1h30m", a number of '
            'seconds, "0" to unload it at once, "-1" to keep it'
        ),
        examples=["5m"],
    )
    workflow: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")] | None = Field(
        None,
        description="What a run does: `chat` if left out, which is one answer of the model; `tools`, `plan`, "
        "`team`, `reflect`; or a workflow of your own that the workers have installed",
        examples=["chat"],
    )
    tools: ClientTools | None = Field(
        None,
        description="Tools in the client's own process: a run that calls one waits for what it gave",
        examples=[
            [
                {
                    "type": "client",
                    "name": "look_up_order",
                    "description": "Looks up an order by its number.",
                    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
                }
            ]
        ],
    )
    agents: list[Id] | None = Field(
        None,
        max_length=32,
        description="The agents that it may hand sub-tasks to, by their ids",
        examples=[["0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e"]],
    )
    budget: Budget | None = Field(
        None, description="What a run may use", examples=[{"max_tool_calls": 5, "max_seconds": 120}]
    )
    criteria: list[Annotated[str, Field(min_length=1, max_length=2000), STORABLE]] | None = Field(
        None,
        max_length=20,
        description="What the workflow `reflect` holds its draft against",
        examples=[["It answers the question.", "It is at most three sentences long."]],
    )
    approval_timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=2_592_000,
        description="How long a call that needs approval waits for a person before it is refused; for ever if left out",
        examples=[86_400],
    )
    max_revisions: Annotated[int, Field(ge=0, le=10), WHOLE] | None = Field(
        None, description="How often a draft (`reflect`) or a plan (`plan`) is revised; 2 if left out", examples=[2]
    )
    memory: AgentMemory | None = Field(
        None,
        description="What the agent remembers of earlier conversations; nothing if left out",
        examples=[{"scope": "user", "extract": True}],
    )
    queue: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] | None = Field(
        None,
        description="The queue in which its runs wait for a worker, one of those that `HEARTH_QUEUES` names; `runs` if "
        "left out. A class of tasks with a queue of its own takes no places of the others",
        examples=["runs"],
    )


class AgentDraft(Body):
    """A new agent."""

    name: Annotated[str, Field(min_length=1, max_length=200), STORABLE] = Field(
        description="What people call it; need not be unique", examples=["helper"]
    )
    description: Annotated[str, Field(max_length=4000), STORABLE] = Field(
        "", description="What it is for", examples=["Answers short questions."]
    )
    model_name: ModelName
    config: AgentConfig = Field(default_factory=AgentConfig, description="How the model is called")


class AgentReplacement(AgentDraft):
    """All of an agent that a client may set. What is left out goes back to its default."""

    is_active: bool = Field(True, description="Whether it takes new runs; true revives a deleted agent")


class Agent(Answer):
    """A description of how to run a model."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    name: str
    description: str
    model_name: str
    config: AgentConfig
    created_at: datetime
    updated_at: datetime
    is_active: bool = Field(description="False once deleted: it takes no new runs, and its old ones stay readable")


class AgentPage(Answer):
    """A page of agents, the newest first."""

    items: list[Agent]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")
