"""What runs wait for, and what is answered."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.schemas.fields import STORABLE, Answer, Body


class PendingRequest(Answer):
    """One thing that a waiting run waits for."""

    id: str = Field(description="What its answer names", examples=["act:1:0"])
    kind: Literal["tool_call", "approval", "question", "task"] = Field(
        description="`tool_call`: of a client tool; `approval`: of a tool call by a person; `question`: to a person; "
        "`task`: a sub-task, which nobody need answer"
    )
    name: str = Field(description="Of the tool, or of the sub-task's agent", examples=["look_up_order"])
    arguments: dict[str, Any]
    expires_at: datetime | None = Field(description="When its default is taken for the answer; null for never")
    task_id: str | None = Field(description="The sub-task, of kind `task`", json_schema_extra={"format": "uuid"})


def _storable(value: Any) -> Any:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("is nested too deep") from None
    except ValueError:
        raise ValueError("holds NaN, an infinity or half of a surrogate pair, which JSON in UTF-8 lacks") from None
    return value


class RequestResult(Body):
    """What is answered to one thing: `output` to a tool call or a question, `decision` to an approval."""

    id: Annotated[str, Field(min_length=1, max_length=255), STORABLE] = Field(
        description="Of the pending thing", examples=["act:1:0"]
    )
    output: Annotated[Any, AfterValidator(_storable)] = Field(
        None, description="Any JSON of a tool call; a text of a question", examples=[{"status": "shipped"}]
    )
    decision: Literal["approve", "reject"] | None = Field(None, description="Of an approval")
    arguments: Annotated[dict[str, Any], AfterValidator(_storable)] | None = Field(
        None, description="With `approve`: other arguments to call the tool with"
    )
    reason: Annotated[str, Field(max_length=4000), STORABLE] | None = Field(
        None, description="With `reject`: why, for the model"
    )

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        if ("output" in self.model_fields_set) == (self.decision is not None):
            raise ValueError("takes exactly one of `output` and `decision`")
        if self.arguments is not None and self.decision != "approve":
            raise ValueError("takes `arguments` only with the decision `approve`")
        if self.reason is not None and self.decision != "reject":
            raise ValueError("takes `reason` only with the decision `reject`")
        return self


class ResumeRequest(Body):
    """Answers to what a run waits for: some of it, or all."""

    results: list[RequestResult] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len({result.id for result in self.results}) < len(self.results):
            raise ValueError("names an id twice in `results`")
        return self
