"""What a run asks of others, answered by the test."""

from typing import Any

from agent_service.requests import RunWaits
from hearth_runtime.tasks import Pending, PendingKind


class FakeRequests:
    """Gives what `answers` has for a call's id, and waits for the rest; `asked` has every pending thing."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[Pending] = []

    async def ask(self, pending: Pending) -> dict[str, Any]:
        self.asked.append(pending)
        if pending.id not in self.answers:
            raise RunWaits(pending)
        return self.answers[pending.id]

    async def run_agent(self, *, call_id: str, agent_id: str, task_input: dict[str, Any]) -> dict[str, Any]:
        return await self.ask(
            Pending(id=call_id, kind=PendingKind.TASK, name=agent_id, arguments={"input": task_input}, task_id=agent_id)
        )
