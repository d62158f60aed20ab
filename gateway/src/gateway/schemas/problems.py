"""Errors as clients get them."""

from pydantic import Field

from gateway.schemas.fields import Answer


class FieldProblem(Answer):
    """One field that is wrong."""

    field: str
    message: str


class Problem(Answer):
    """Problem details, RFC 9457."""

    type: str = Field(description="A URI of the kind of problem", json_schema_extra={"format": "uri"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What is wrong here, and what to do")
    instance: str = Field(description="The path that was asked for")
    code: str = Field(description="A stable name of the kind of problem")
    errors: list[FieldProblem] | None = Field(None, description="The fields to blame")
