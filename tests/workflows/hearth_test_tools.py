"""A kind of tool of somebody else's, as agent-service finds it installed: this folder on PYTHONPATH is enough."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec


class Dice:
    """The one tool of its kind."""

    spec = ToolSpec(
        name="dice",  # the kind's, so an agent's own name and description for it take its place
        description="Rolls dice and gives what each shows.",
        parameters={
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How many dice"}},
            "required": ["count"],
            "additionalProperties": False,
        },
        repeatable=True,  # a worker that dies while they roll does no harm: another rolls them
        timeout_seconds=5,
    )

    def __init__(self, sides: int) -> None:
        self._sides = sides

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        rolled = [random.randint(1, self._sides) for _ in range(arguments["count"])]
        return ToolResult(content=", ".join(map(str, rolled)), data={"rolled": rolled})


class DiceKind:
    """`dice`."""

    name = "dice"
    description = "Rolls dice."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"sides": {"type": "integer", "minimum": 2, "maximum": 100, "default": 6}},
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        # What is opened here, a connection for one, is closed after the `yield`, when the run has ended.
        yield [Dice(config.get("sides", 6))]
