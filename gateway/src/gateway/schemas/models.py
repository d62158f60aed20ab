"""Models and the hosts that serve them."""

from datetime import datetime
from typing import Literal

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


class Breaker(Answer):
    """The circuit breaker of a host: after failures in a row the host is given no requests until it works again."""

    state: Literal["closed", "half_open", "open"] = Field(
        description="`open`: no requests are sent there; `half_open`: one at a time is, to see whether it works"
    )
    reason: str | None = Field(description="The host's last failure; null while closed")
    since: datetime | None = Field(description="When it opened; null while closed")
    next_probe: datetime | None = Field(description="When the host is looked at again; null but while open")


class ModelHost(Answer):
    """A server of models."""

    name: str
    reachable: bool
    version: str
    error: str | None = Field(description="Why it cannot be reached")
    active_requests: int
    waiting_requests: int
    breaker: Breaker


class Models(Answer):
    """The models that can be run now."""

    items: list[Model]
    hosts: list[ModelHost]
