"""The result of a tool call outlasts a storage-service that is away for a moment."""

from typing import Any

import pytest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.tool_calls import ToolCalls
from hearth_runtime.errors import AttemptOutdated, DeadlineExceeded, HearthError, Unavailable


class Journal(StoredCheckpoints):
    """A journal that answers the first offers of a result with these errors."""

    def __init__(self, *errors: HearthError) -> None:
        self.errors = list(errors)
        self.results: list[str] = []

    async def begin_tool_call(self, task_id: str, **fields: Any) -> str | None:
        return None

    async def finish_tool_call(self, task_id: str, *, attempt: int, call_id: str, result: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.results.append(result)


class Tool:
    """Counts its calls."""

    calls = 0

    async def call(self) -> Any:
        self.calls += 1
        return {"n": self.calls}


async def make(journal: Journal, tool: Tool) -> Any:
    calls = ToolCalls(journal, task_id="t", attempt=1)
    return await calls.make(call_id="c", tool_name="tool", arguments={}, repeatable=False, call=tool.call)


async def test_a_result_waits_for_storage() -> None:
    journal, tool = Journal(Unavailable("away"), DeadlineExceeded("slow")), Tool()
    assert await make(journal, tool) == {"n": 1}
    assert (journal.results, tool.calls) == (['{"n":1}'], 1)


async def test_a_result_of_an_outdated_attempt_waits_for_nothing() -> None:
    journal, tool = Journal(AttemptOutdated("over")), Tool()
    with pytest.raises(AttemptOutdated):
        await make(journal, tool)
    assert (journal.results, tool.calls) == ([], 1)
