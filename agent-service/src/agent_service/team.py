"""The agents that an agent may hand sub-tasks to, each as a tool that takes a `task`.

A sub-task is a task of its own, with its own attempts, events and budget. While it runs its parent waits and holds no
worker, so parents never keep their children from running.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hearth_runtime.agents import Agent, Budget

from agent_service.requests import Requests
from agent_service.storage import StoredAgents
from agent_service.tasks import BUDGET
from agent_service.tool import Tool, ToolResult, ToolSpec, tool_names

TASK = "task"
MAX_TASK_CHARACTERS = 20_000
MAX_RESULT_CHARACTERS = 20_000
PARAMETERS = {
    "type": "object",
    "properties": {
        TASK: {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_TASK_CHARACTERS,
            "description": "All that the agent needs to know to do it: it sees nothing else",
        }
    },
    "required": [TASK],
    "additionalProperties": False,
}


class Member:
    """An agent as a tool. It may be asked again: its sub-task is found, and not started twice."""

    def __init__(self, agent: Agent, name: str, requests: Requests, budget: Budget | None) -> None:
        self._agent = agent
        self._budget = {} if budget is None else {k: v for k, v in asdict(budget).items() if v is not None}
        self._requests = requests
        self.spec = ToolSpec(
            name=name,
            description=agent.description or f"The agent {agent.name}.",
            parameters=PARAMETERS,
            repeatable=True,
            result_characters=MAX_RESULT_CHARACTERS,
            gives="sub_task",
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        """How its run ended. Raises RunWaits until it has."""
        task_input: dict[str, Any] = {"prompt": arguments[TASK]}
        if self._budget:
            task_input[BUDGET] = self._budget
        ended = await self._requests.run_agent(call_id=call_id, agent_id=self._agent.id, task_input=task_input)
        data: dict[str, Any] = {"task_id": ended["task_id"], "status": ended["status"]}
        if ended["status"] != "completed":
            why = ended.get("error_message") or ended["status"]
            data["usage"] = ended.get("usage")
            return ToolResult(content=f"{self._agent.name} did not finish: {why}", is_error=True, data=data)
        output = ended["output"]
        data |= {"data": output.get("data"), "usage": output.get("usage")}
        if "citations" in output:
            data["citations"] = output["citations"]
        return ToolResult(content=output["text"], data=data)


async def members(
    agent_ids: Sequence[str], stored: StoredAgents, requests: Requests, budget: Budget | None
) -> list[Tool]:
    """These agents as tools, named after them, none of which may use more than `budget`. Raises AgentNotFound."""
    agents = [await stored.get(agent_id) for agent_id in agent_ids]
    names = tool_names([agent.name for agent in agents], unnamed="agent")
    return [Member(agent, name, requests, budget) for agent, name in zip(agents, names, strict=True)]
