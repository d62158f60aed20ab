"""Models and the hosts that serve them."""

from pydantic import Field

from gateway.schemas.fields import Answer


class Model(Answer):
    """A model that at least one host has."""

    name: str
    capabilities: list[str] = Field(description="completion, tools, embedding, vision, thinking, insert")
    family: str
    parameter_size: str
    quantization: str
    size_bytes: int
    context_tokens: int | None = Field(description="Null where the host does not say")
    hosts: list[str]


class ModelHost(Answer):
    """A server of models."""

    name: str
    reachable: bool
    version: str
    error: str | None = Field(description="Why it cannot be reached")
    active_requests: int
    waiting_requests: int


class Models(Answer):
    """The models that can be run now."""

    items: list[Model]
    hosts: list[ModelHost]
