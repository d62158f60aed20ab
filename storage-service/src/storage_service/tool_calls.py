"""Tool calls: a journal in which each is noted before it is made. The table `tool_calls`.

A call that was begun and has no result may or may not have been made; only one that may be repeated is made again.
"""

from dataclasses import dataclass
from typing import Any

from hearth_runtime.errors import ToolCallUnfinished

from storage_service.arguments import invalid
from storage_service.attempts import Attempts
from storage_service.database import Database
from storage_service.queries import load_queries

SQL = load_queries("tool_calls")


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call of a tool, to be made by an attempt. `call_id` is the same in every attempt."""

    task_id: str
    attempt: int
    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    repeatable: bool


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a tool call gave: any JSON, null as well."""

    value: Any


class ToolCalls:
    """The tool calls of unfinished tasks. Everything raises AttemptOutdated where another attempt has taken over."""

    def __init__(self, database: Database, attempts: Attempts) -> None:
        self._database = database
        self._attempts = attempts

    async def begin(self, call: ToolCall) -> ToolResult | None:
        """Notes that the call begins; or its result, where it is known. The same again is harmless.

        Raises AttemptOutdated, and ToolCallUnfinished where an earlier attempt began it, its result is not known, and
        it is not repeatable.
        """
        begun = await self._database.fetchrow(
            SQL["begin_tool_call"],
            call.task_id,
            call.attempt,
            call.call_id,
            call.tool_name,
            call.arguments,
            call.repeatable,
        )
        if begun is not None:
            return None
        known = await self._find(call.task_id, call.attempt, call.call_id)
        if known["ended_at"] is not None:
            return ToolResult(value=known["result"])
        raise ToolCallUnfinished(
            f"A call of the tool {known['tool_name']} was cut off, and may have been made. Find out; if repeating it "
            f"does no harm, start the task again with POST /api/v1/tasks/{call.task_id}/retry and "
            '{"repeat_tool_calls": true}.',
            metadata={"task_id": call.task_id, "tool_name": known["tool_name"]},
        )

    async def finish(self, task_id: str, attempt: int, *, call_id: str, result: Any) -> None:
        """Keeps the result; the first one counts, the same again is harmless. Raises AttemptOutdated, and
        InvalidArgument where this attempt did not begin the call."""
        if await self._database.fetchrow(SQL["finish_tool_call"], task_id, attempt, call_id, result) is not None:
            return
        known = await self._find(task_id, attempt, call_id)
        if known["ended_at"] is None:
            raise invalid("call_id", "must be of a call that this attempt began")

    async def _find(self, task_id: str, attempt: int, call_id: str) -> Any:
        row = await self._database.fetchrow(SQL["find_tool_call"], task_id, attempt, call_id)
        if row is None:
            raise await self._attempts.outdated(task_id, attempt)
        return row
