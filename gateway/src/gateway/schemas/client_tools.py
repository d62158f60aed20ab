"""Tools in the client's own process, declared by schema alone."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gateway.schemas.fields import STORABLE, Body
from gateway.schemas.output_schema import check_output_schema


def _check_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError("must be the schema of an object")
    return check_output_schema(schema)


class ClientTool(Body):
    """A tool that the client has: the run waits until the client posts what it gave."""

    type: Literal["client"]
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Unique within a run", examples=["look_up_order"])
    description: Annotated[str, Field(max_length=4000), STORABLE] = Field(
        description="What it does, for the model", examples=["Looks up an order by its number."]
    )
    parameters: Annotated[dict[str, Any], AfterValidator(_check_parameters)] = Field(
        description="The JSON Schema (2020-12, 64 KiB at most) of the object that it takes",
        examples=[{"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}],
    )
    timeout_seconds: float | None = Field(
        None, gt=0, le=2_592_000, description="How long the run waits for what it gave; for ever if left out"
    )


def _unique_names(tools: list[ClientTool]) -> list[ClientTool]:
    names = [tool.name for tool in tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"has two tools named {twice[0]}")
    return tools


ClientTools = Annotated[list[ClientTool], Field(max_length=32), AfterValidator(_unique_names)]
