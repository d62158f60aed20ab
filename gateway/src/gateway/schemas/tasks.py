"""Runs of agents."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.schemas.agents import MAX_PROMPT_CHARACTERS
from gateway.schemas.client_tools import ClientTools
from gateway.schemas.fields import STORABLE, Answer, Body, Id, Outcome, TaskStatus, UserName
from gateway.schemas.requests import PendingRequest

MAX_MESSAGES = 500
MAX_ATTACHMENTS = 10


class Message(Body):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"] = Field(description="Who says it", examples=["user"])
    content: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS), STORABLE] = Field(
        description="What is said", examples=["Name three colours."]
    )


class RunInput(Body):
    """What a run is asked: exactly one of `prompt` and `messages`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["prompt"]}, {"required": ["messages"]}]})

    # Their defaults only say "left out": null is refused, since it would be stored and shown.
    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS), STORABLE] = Field(
        default_factory=str, description="A single message of the user's", examples=["Name three colours."]
    )
    messages: list[Message] = Field(
        default_factory=list, min_length=1, max_length=MAX_MESSAGES, description="A conversation, the oldest first"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("takes exactly one of `prompt` and `messages`")
        return self


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error
    return value


class Attachment(Body):
    """A file that comes with a run."""

    name: Annotated[str, Field(min_length=1, max_length=255), STORABLE] = Field(
        description="The file's name, which tells its kind where it is text", examples=["notes.md"]
    )
    media_type: Annotated[str, Field(pattern=r"^[!-~ ]{1,255}$")] = Field(
        "application/octet-stream", description="What it is said to be; what it holds counts more"
    )
    data: Annotated[str, AfterValidator(_base64)] = Field(description="The file, in base64", examples=["IyBOb3Rlcwo="])


class RunRequest(Body):
    """A run to start."""

    agent_id: Id = Field(description="The agent", examples=["0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e"])
    input: RunInput
    session_id: Id | None = Field(
        None,
        description="A conversation of your choosing: its earlier turns come first, and it is begun where it is new",
        examples=["0199f0a4-9a00-7d11-8c55-1f2e3d4c5b6a"],
    )
    user: UserName | None = Field(
        None,
        description="For whom it runs, by a name of your choosing: facts of the scope `user` are kept and recalled for "
        "that user alone. Hearth checks no identity: name here only whom you have checked",
        examples=["ada"],
    )
    attachments: Annotated[list[Attachment], Field(max_length=MAX_ATTACHMENTS)] | None = Field(
        None,
        description="Files: the text of those that `POST /api/v1/documents` takes is put before the question; images, "
        "PNG or JPEG, are shown to models with vision, and refused for others",
    )
    tools: ClientTools | None = Field(
        None,
        description="Tools in the client's own process, for this run; one that is named as one of its agent's "
        "`config.tools` comes in its place",
    )


class RunLinks(Answer):
    """Where to follow a run."""

    status: str
    stream: str = Field(description="Server-sent events")
    events: str = Field(description="WebSocket")
    logs: str
    attempts: str
    cancel: str = Field(description="For the method DELETE")
    trace: str | None = Field(
        description="Its trace, for people; null where none is kept or HEARTH_TRACE_URL is not set"
    )


class RunAccepted(Answer):
    """A run that will end, whatever happens."""

    task_id: str = Field(json_schema_extra={"format": "uuid"})
    status: TaskStatus = Field(description="`pending`, or what it is now where the idempotency key was known")
    links: RunLinks


class Attached(Answer):
    """A file that came with the run; its text or its image is not shown again."""

    name: str
    media_type: str
    characters: int | None = Field(description="Of its text; null for an image")


class TaskInput(Answer):
    """What the run was asked."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    attachments: list[Attached] | None = Field(None, description="The files that came with it")
    budget: dict[str, float] | None = Field(
        None, description="Of a sub-task: what its parent's budget sets; it keeps to that and to its own agent's"
    )
    document_id: str | None = Field(None, description="The document that is read")
    collection_id: str | None = Field(None, description="The collection that is embedded anew")
    embedding_model: str | None = Field(None, description="The model that embeds it")


class Usage(BaseModel):
    """What the run took."""

    # The worker may come to measure more.
    model_config = ConfigDict(extra="allow")

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Citation(BaseModel):
    """Where something that the answer says stands."""

    document_id: str
    name: str = Field(description="The document's")
    page: int | None = Field(description="From 1; null for kinds of files that have no pages")
    span: tuple[int, int] = Field(description="Where the quote begins and ends in the document's text, in characters")
    quote: str = Field(description="What stands there")
    marker: int = Field(description="The number under which the model was given the passage")
    how: Literal["cited", "attributed"] = Field(
        description="`cited` by the model, and checked; or `attributed` to the passage by its words alone"
    )
    sentence: tuple[int, int] = Field(description="The sentence of the answer, in characters")


class DroppedCitation(BaseModel):
    """A citation of the model's that does not hold."""

    marker: int
    reason: Literal["unknown_marker", "not_in_text"] = Field(
        description="There is no passage of this number, or it does not say so"
    )
    sentence: tuple[int, int] = Field(description="The sentence of the answer, in characters")


class TaskOutput(BaseModel):
    """What the run gave."""

    model_config = ConfigDict(extra="allow")

    text: str = Field("", description="The model's answer")
    data: Any = Field(None, description="The answer as JSON that `output_schema` allows, where the agent has one")
    usage: Usage | None = None
    model: str | None = Field(None, description="The model that answered")
    citations: list[Citation] = Field(
        [], description="Which sentences stand in which documents, where the run has looked something up"
    )
    dropped_citations: list[DroppedCitation] = Field([], description="Citations of the model's that do not hold")


class Task(Answer):
    """One run of an agent."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    agent_id: str = Field(json_schema_extra={"format": "uuid"})
    session_id: str | None
    status: TaskStatus
    input: TaskInput
    output: TaskOutput | None = Field(description="Null until the run has completed")
    error_code: str | None = Field(description="A stable code of what the last failed attempt ended with")
    error_message: str | None
    retry_count: int = Field(description="How many attempts failed and were repeated")
    attempt: int = Field(description="The number of the present or last attempt; 0 before the first")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None = Field(description="When it ended, in whatever state")
    next_attempt_at: datetime | None = Field(description="The time before which it is not tried again")
    cancel_requested: bool
    pending: list[PendingRequest] = Field(description="What a `waiting` run waits for")
    parent_task_id: str | None = Field(
        description="The run that this one is a sub-task of", json_schema_extra={"format": "uuid"}
    )
    user: str | None = Field(None, description="For whom it runs, if the run named somebody")
    forked_from_task_id: str | None = Field(description="The task that it began as a copy of")
    replay_of_task_id: str | None = Field(description="The task that it does again from its recorded answers")
    trace_id: str | None = Field(
        description="Of the trace that has all attempts, and those of its sub-tasks; null where none was made"
    )
    links: RunLinks


class TaskPage(Answer):
    """A page of tasks, the newest first."""

    items: list[Task]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class RetryRequest(Body):
    """How to start a run again; nothing need be sent."""

    start: Literal["checkpoint", "start"] = Field(
        "checkpoint",
        alias="from",
        description="After the last step that it finished, or from the beginning",
        examples=["start"],
    )
    repeat_tool_calls: bool = Field(
        False,
        description="Also repeat tool calls that were cut off, though they may have been made: where a run failed with "
        "`tool_call_unfinished` and you know that a repetition does no harm",
    )


class Attempt(Answer):
    """One worker's go at a run."""

    attempt: int = Field(description="From 1")
    worker_id: str
    started_at: datetime
    ended_at: datetime | None = Field(description="Null while it goes on")
    outcome: Outcome | None = Field(
        description="`retried`: it failed and another followed; `handed_over`: its worker stopped in good order; "
        "`worker_lost`: its worker was not heard of any more; `waiting`: it asked for something and gave its place back"
    )
    error_code: str | None
    error_message: str | None
    resumed_from: str | None = Field(description="The step that it went on with, earlier ones being finished already")


class AttemptPage(Answer):
    """A page of attempts, the first one first."""

    items: list[Attempt]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class TaskCancelled(Answer):
    """A run that was told to stop."""

    task_id: str = Field(json_schema_extra={"format": "uuid"})
    status: TaskStatus = Field(description="`cancelled`, or `running` until the model has stopped")
