"""What a run asks of others, and waits for: a person, the client's own process, another agent's run."""

from typing import Any, Protocol

from hearth_runtime.tasks import Pending
from langgraph.errors import GraphBubbleUp


class RunWaits(GraphBubbleUp):
    """The run cannot go on before `pendings` are answered: it gives its worker's place back meanwhile.

    LangGraph lets it out of a graph once the steps beside the one that raised it are done, and takes it for no failure.
    """

    def __init__(self, *pendings: Pending) -> None:
        super().__init__(", ".join(pending.id for pending in pendings))
        self.pendings = pendings


class Requests(Protocol):
    """What the task has asked, by call id; what was answered stays known in every later attempt."""

    async def ask(self, pending: Pending) -> dict[str, Any]:
        """The answer; raises RunWaits(pending) where there is none yet.

        Of a tool call: {"output": JSON}. Of a question: {"output": text}. Of an approval: {"decision": "approve" |
        "reject", "arguments": edited ones or absent, "reason": text or absent}. Where the time for it was over: the
        pending's default, or {"timed_out": true} without one.
        """
        ...

    async def run_agent(self, *, call_id: str, agent_id: str, task_input: dict[str, Any]) -> dict[str, Any]:
        """How another agent's run ended: {"task_id", "status", "output", "error_message"}, and `usage` where it did not
        complete: {"prompt_tokens", "completion_tokens"} of the events that are kept so far. Raises RunWaits until then,
        having started it where it was not started yet; AgentNotFound, AgentInactive, and SubTaskRefused where the tree
        of tasks would become too deep or too broad."""
        ...
