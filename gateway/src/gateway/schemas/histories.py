"""What the steps of a run left behind, and runs that are made from it."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from gateway.schemas.fields import STORABLE, Answer, Body
from gateway.schemas.json_value import storable_json
from gateway.schemas.tasks import RunInput

MAX_JSON_BYTES = 512 * 1024
CheckpointId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")]
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json(MAX_JSON_BYTES))]


class Checkpoint(Answer):
    """The state of a run between two steps."""

    id: str = Field(description="In the order of their making")
    finished: list[str] = Field(description="The steps that this state came of; none at the beginning")
    next: list[str] = Field(description="The steps that follow it; none at the end")
    attempt: int = Field(description="Who got there; 0: it was copied from the task that this one was made from")
    created_at: datetime
    state: dict[str, Any] = Field(description="What the steps share, by name")
    is_cut: bool = Field(description="The state is larger than what is shown of it")


class CheckpointPage(Answer):
    """A page of checkpoints, the first one first."""

    items: list[Checkpoint]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class ForkTaskRequest(Body):
    """Where a fork begins, and what is otherwise in it; nothing need be sent."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["checkpoint_id", "step"]}})

    # Their defaults only say "left out": null is refused.
    checkpoint_id: CheckpointId = Field(
        default_factory=str,
        description="The checkpoint to begin with; the run's beginning without it",
        examples=["1f0c95d2-6a3e-6f10-8001-2b3c4d5e6f70"],
    )
    step: Annotated[str, Field(min_length=1, max_length=255), STORABLE] = Field(
        default_factory=str,
        description="In the place of `checkpoint_id`: the last checkpoint that this step follows",
        examples=["answer"],
    )
    state: JsonObject = Field(
        default_factory=dict,
        description="A merge patch (RFC 7396) of the checkpoint's state. The steps that follow stay the same",
        examples=[{"problems": ["It is too long."]}],
    )
    input: RunInput | None = Field(None, description="In the place of the task's")
    answers: JsonObject = Field(
        default_factory=dict,
        description="Answers to give instead of making calls, by call id as events have it in `context.call`: "
        "`text`, `data`, `tool_calls` of a model; `content`, `is_error`, `data`, or `result`, of a tool",
        examples=[{"act:0:0": {"content": "Rain in Paris."}}],
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if {"checkpoint_id", "step"} <= self.model_fields_set:
            raise ValueError("takes one of `checkpoint_id` and `step`, or none")
        return self
