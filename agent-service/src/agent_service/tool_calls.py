"""Tool calls that are made once, whatever becomes of the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from hearth_runtime.errors import DeadlineExceeded, InvalidArgument, Unavailable
from loguru import logger

from agent_service.checkpoint_store import StoredCheckpoints

# How long a result waits for a storage-service that is away, and how often it is offered meanwhile.
KEEP_SECONDS = 60.0
OFFER_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Given:
    """A result, any JSON value, that is there without a call."""

    value: Any


class Answers(Protocol):
    """Who knows results of calls that are not to be made."""

    async def tool_result(self, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Given | None: ...


class ToolCalls:
    """The tool calls of the task that `attempt` runs; those that `answers` knows are not made."""

    def __init__(self, store: StoredCheckpoints, *, task_id: str, attempt: int, answers: Answers | None = None) -> None:
        self._store = store
        self._task_id = task_id
        self._attempt = attempt
        self._answers = answers

    async def make(
        self,
        *,
        call_id: str,
        tool_name: str,
        arguments: dict[str, Any],
        repeatable: bool,
        call: Callable[[], Awaitable[Any]],
    ) -> Any:
        """The result, a JSON value, of `call`, or of the same call in an earlier attempt, which is not made again.

        `call_id`, of at most 255 characters, names this call within the task and must be the same in every attempt:
        make it of the step and the place of the call in it ("tools:3:0"), never of anything random. `repeatable` says
        that a second call does no harm.

        What `call` raises passes through, and the call counts as cut off: a tool that knows that it failed says so in
        its result. Raises ToolCallUnfinished where an earlier attempt was cut off in this call and it is not
        repeatable, AttemptOutdated where another attempt has taken over, and InvalidArgument where the result is no
        JSON or too large.
        """
        if self._answers is not None:
            given = await self._answers.tool_result(call_id, tool_name, arguments)
            if given is not None:
                return given.value
        known = await self._store.begin_tool_call(
            self._task_id,
            attempt=self._attempt,
            call_id=call_id,
            tool_name=tool_name,
            arguments=orjson.dumps(arguments).decode(),
            repeatable=repeatable,
        )
        if known is not None:
            return orjson.loads(known)
        value = await call()
        try:
            result = orjson.dumps(value).decode()
        except orjson.JSONEncodeError as error:
            raise InvalidArgument(f"The tool {tool_name} gave a result that is no JSON: {error}.") from error
        await self._keep(call_id, result)
        return orjson.loads(result)

    async def _keep(self, call_id: str, result: str) -> None:
        """Keeps the result, for without it nobody knows that the call was made; waits for a storage-service that is
        away. Raises Unavailable or DeadlineExceeded where that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KEEP_SECONDS
        while True:
            try:
                await self._store.finish_tool_call(self._task_id, attempt=self._attempt, call_id=call_id, result=result)
            except (Unavailable, DeadlineExceeded):
                if loop.time() > deadline:
                    raise
                logger.warning("a tool call's result cannot be kept yet", task_id=self._task_id, call_id=call_id)
                await asyncio.sleep(OFFER_SECONDS)
            else:
                return
