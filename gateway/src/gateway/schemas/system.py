"""How the system is."""

from typing import Literal

from pydantic import Field

from gateway.schemas.fields import Answer


class ServiceHealth(Answer):
    """One service, asked just now."""

    status: Literal["ok", "degraded", "unavailable"] = Field(
        description="`degraded`: it answers, and something that it needs is not healthy"
    )
    latency_ms: float
    detail: str


class DependencyHealth(Answer):
    """Something that services need, as they see it."""

    status: Literal["ok", "unavailable"]
    required: bool = Field(description="Whether a service that needs it cannot work without it")
    latency_ms: float
    detail: str
    services: list[str] = Field(description="Who needs it")


class Health(Answer):
    """The whole system."""

    status: Literal["ok", "degraded", "unavailable"] = Field(
        description="`unavailable` (503): a service or what it must have is down. `degraded`: what it can do without is"
    )
    services: dict[str, ServiceHealth]
    dependencies: dict[str, DependencyHealth]


class Live(Answer):
    """The gateway's process."""

    status: Literal["ok"]
