"""Client tools: tools in the client's own process, which a run asks for and waits for."""

import re
from collections.abc import Sequence
from typing import Any

import orjson
from hearth_runtime.agents import Agent, ClientTool
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.tasks import Pending, PendingKind, Task

from agent_service.json_schema import violations
from agent_service.requests import Requests
from agent_service.tool import Tool, ToolResult, ToolSpec

CLIENT_TOOLS_LIMIT = 32
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CalledByClient:
    """A client tool as any other: its call is a request to the client."""

    def __init__(self, tool: ClientTool, requests: Requests) -> None:
        self._tool = tool
        self._requests = requests
        # Asking again is no second call: a request is known by its call's id.
        self.spec = ToolSpec(
            name=tool.name,
            description=tool.description,
            parameters=orjson.loads(tool.parameters),
            repeatable=True,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        """What the client posted. Raises RunWaits until it has."""
        answer = await self._requests.ask(
            Pending(
                id=call_id,
                kind=PendingKind.TOOL_CALL,
                name=self._tool.name,
                arguments=arguments,
                timeout_seconds=self._tool.timeout_seconds,
            )
        )
        if "output" not in answer:
            seconds = self._tool.timeout_seconds
            return ToolResult(content=f"The client gave no result within {seconds:g} seconds.", is_error=True)
        output = answer["output"]
        content = output if isinstance(output, str) else orjson.dumps(output).decode()
        return ToolResult(content=content, data=None if isinstance(output, str) else output)


def client_tools(task: Task, agent: Agent, requests: Requests) -> tuple[Tool, ...]:
    """The tools that the agent and this run declare; the run's come before those of the same name."""
    declared = {tool.name: tool for tool in (*agent.config.tools, *task.tools)}
    return tuple(CalledByClient(tool, requests) for tool in declared.values())


def check_client_tools(tools: Sequence[ClientTool], *, field: str) -> None:
    """Raises InvalidArgument where they could not be called."""
    if wrong := unfit_client_tools(tools, field=field):
        raise InvalidArgument(
            "The tools are not valid: " + "; ".join(f"{w.field} {w.message}" for w in wrong), fields=wrong
        )


def unfit_client_tools(tools: Sequence[ClientTool], *, field: str) -> list[FieldViolation]:
    """What keeps them from being called; `field` is where they stand in the request."""
    wrong: list[FieldViolation] = []
    if len(tools) > CLIENT_TOOLS_LIMIT:
        wrong.append(FieldViolation(field=field, message=f"must be {CLIENT_TOOLS_LIMIT} at most"))
    names = [tool.name for tool in tools]
    for place, tool in enumerate(tools):
        at = f"{field}[{place}]"
        if not _NAME.fullmatch(tool.name):
            wrong.append(FieldViolation(field=f"{at}.name", message="must have 1 to 64 of A-Z, a-z, 0-9, _ and -"))
        if tool.name in names[:place]:
            wrong.append(FieldViolation(field=f"{at}.name", message="must be no other tool's"))
        if (tool.timeout_seconds or 1) <= 0:
            wrong.append(FieldViolation(field=f"{at}.timeout_seconds", message="must be more than 0"))
        if message := _unfit(tool.parameters):
            wrong.append(FieldViolation(field=f"{at}.parameters", message=message))
    return wrong


def _unfit(parameters: str) -> str:
    """What keeps the text from being a tool's parameters; empty where nothing does."""
    try:
        schema: Any = orjson.loads(parameters)
    except orjson.JSONDecodeError:
        return "must be a JSON Schema"
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return "must be the JSON Schema of an object"
    try:
        violations(schema, {})
    except ValueError as error:
        return str(error)
    return ""
