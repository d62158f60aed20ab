"""The tool `run_agent`: a sub-task for another agent, for whose end the run waits."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from agent_service.storage import StoredAgents
from agent_service.team import MAX_RESULT_CHARACTERS, PARAMETERS, TASK, members
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

AGENT = "agent"


class RunAgent:
    """The one tool of its kind: its members are the agents that may be asked, by their names."""

    def __init__(self, members: Mapping[str, Tool]) -> None:
        self._members = members
        who = "; ".join(f"{name}: {member.spec.description}" for name, member in members.items())
        properties: Any = PARAMETERS["properties"]
        agent = {"type": "string", "enum": list(members), "description": "Which agent is to do it"}
        self.spec = ToolSpec(
            name="run_agent",
            description=f"Hands a task to another agent and waits until it is done. There are: {who or 'none'}",
            parameters={
                **PARAMETERS,
                "properties": {AGENT: agent, **properties},
                "required": [AGENT, TASK],
            },
            repeatable=True,
            result_characters=MAX_RESULT_CHARACTERS,
            gives="sub_task",
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        """How its run ended. Raises RunWaits until it has."""
        if not self._members:
            return ToolResult(content="Only a run can hand a task to another agent.", is_error=True)
        return await self._members[arguments[AGENT]].call({TASK: arguments[TASK]}, call_id=call_id)


class RunAgentKind:
    """`run_agent`."""

    name = "run_agent"
    description = "Hands a sub-task to one of some agents; the run waits for its end and holds no worker meanwhile."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "agents": {
                "type": "array",
                "items": {"type": "string", "format": "uuid"},
                "minItems": 1,
                "maxItems": 32,
                "uniqueItems": True,
                "description": "The ids of the agents that may be asked",
            }
        },
        "required": ["agents"],
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        """Raises AgentNotFound."""
        found: Sequence[Tool] = ()
        if scope.requests is not None:
            found = await members(
                config["agents"], StoredAgents(host.storage), scope.requests, scope.agent.config.budget
            )
        yield [RunAgent({member.spec.name: member for member in found})]
