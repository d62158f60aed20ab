"""Tools that do what a test wants."""

from collections.abc import Awaitable, Callable
from typing import Any

from agent_service.tool import Gives, ToolResult, ToolSpec


class FakeTool:
    """Gives `answer` of its arguments, which it keeps in `calls`."""

    def __init__(
        self,
        name: str,
        answer: Callable[[dict[str, Any]], str | ToolResult | Awaitable[str]],
        *,
        repeatable: bool = True,
        needs_approval: bool = False,
        gives: Gives | None = None,
        description: str = "",
        **parameters: dict[str, Any],
    ) -> None:
        self._answer = answer
        self.calls: list[dict[str, Any]] = []
        self.spec = ToolSpec(
            name=name,
            description=description or name,
            parameters={
                "type": "object",
                "properties": parameters,
                "required": list(parameters),
                "additionalProperties": False,
            },
            repeatable=repeatable,
            needs_approval=needs_approval,
            gives=gives,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        self.calls.append(arguments)
        answer = self._answer(arguments)
        if isinstance(answer, str | ToolResult):
            return answer if isinstance(answer, ToolResult) else ToolResult(content=answer)
        return ToolResult(content=await answer)
