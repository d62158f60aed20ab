"""A replay: a run again from what it was answered, up to the first difference.

What a run did is known from its events (model calls, and the time of its steps) and from the journal of tool calls. A
replay stops at its first difference: whatever follows it would rest on answers to other questions.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from hearth_runtime.checkpoints import NOTE, RecordedCall
from hearth_runtime.errors import AttemptOutdated, HearthError, from_code
from hearth_runtime.events import Event, EventKind
from hearth_runtime.tasks import Task, TaskStatus
from langgraph.errors import GraphDrained
from loguru import logger

from agent_service.asked import Asked
from agent_service.inference import Done, ToolCall
from agent_service.recording import TOOLS, RecordedAnswer, note_id
from agent_service.requests import RunWaits
from agent_service.tool import Tool, ToolResult, ToolSpec
from agent_service.tool_calls import Given

type Difference = dict[str, Any]

SHOWN_CHARACTERS = 2000


class Differs(Exception):
    """The run does something else than the one that it does again."""


class Record:
    """What a run was answered.

    `model` has the last answer, or failure, of each model call by its call id, with what was asked then; `calls` the
    tool calls and the notes; `seconds` how long each step took, by its name.
    """

    def __init__(self, calls: dict[str, RecordedCall]) -> None:
        self.calls = calls
        self.model: dict[str, tuple[dict[str, Any], RecordedAnswer | HearthError]] = {}
        self.seconds: defaultdict[str, deque[float]] = defaultdict(deque)
        self._said: dict[str, Event] = {}

    def add(self, event: Event) -> None:
        """Takes in an event of the run; they come in their order."""
        context = event.context
        if context.get("asked", {}).get("noted"):
            # Of the call of a note, the note itself is the record.
            return
        match event.kind:
            case EventKind.STATUS if context.get("from_start"):
                # What came before was forgotten.
                self.model.clear()
                self.seconds.clear()
            case EventKind.MESSAGE if "call" in context:
                self._said[context["call"]] = event
            case EventKind.USAGE if "asked" in context and context["call"] in self._said:
                said = self._said.pop(context["call"])
                self.model[context["call"]] = (context["asked"], _answer_of(said, context))
            case EventKind.LOG if context.get("code") == "call_failed":
                error = context["error"]
                failure = from_code(error["code"], error["detail"], metadata=error["metadata"])
                self.model[context["call"]] = (context["asked"], failure)
            case EventKind.STEP if "seconds" in context:
                self.seconds[context["step"]].append(context["seconds"])


class Replayed:
    """The recording that answers from a record alone. `difference` is the first one, once there is one."""

    def __init__(self, record: Record, origin: Task, *, attempt: int) -> None:
        self._record = record
        self._origin = origin
        # A single attempt from the beginning makes each call that is recorded of one; those that a fork was made with
        # are of steps before its own.
        self._is_whole = attempt == 1 and origin.attempt == 1
        self._used: set[str] = set()
        self._gave: list[HearthError] = []
        self.difference: Difference | None = None

    async def model_answer(self, call_id: str, asked: Asked) -> RecordedAnswer | None:
        self._used.add(call_id)
        known = self._record.model.get(call_id)
        if known is None:
            raise self._differs(kind="model_call", call=call_id, part="call", then=None, now=asked.to_json())
        then, answer = known
        if (different := asked.difference(then)) is not None:
            raise self._differs(kind="model_call", call=call_id, **different)
        if isinstance(answer, HearthError):
            self._gave.append(answer)
            raise answer
        return answer

    async def tool_result(self, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Given | None:
        self._used.add(call_id)
        known = self._record.calls.get(call_id)
        now = {"tool": tool_name, "arguments": orjson.loads(orjson.dumps(arguments))}
        if known is None:
            raise self._differs(kind="tool_call", call=call_id, part="call", then=None, now=now)
        then = {"tool": known.tool_name, "arguments": known.arguments}
        for part in ("tool", "arguments"):
            if then[part] != now[part]:
                raise self._differs(kind="tool_call", call=call_id, part=part, then=then[part], now=now[part])
        return Given(value=orjson.loads(known.result))

    async def note(self, name: str, produce: Callable[[], Awaitable[Any]]) -> Any:
        known = self._record.calls.get(note_id(name))
        if known is None:
            raise self._differs(kind="note", call=name, part="call", then=None, now=name)
        return orjson.loads(known.result)

    def step_seconds(self, step: str) -> float | None:
        taken = self._record.seconds.get(step)
        return taken.popleft() if taken else None

    @asynccontextmanager
    async def tools(self, opened: AbstractAsyncContextManager[Sequence[Tool]]) -> AsyncIterator[Sequence[Tool]]:
        async def nothing() -> None:
            return None

        yield [RecordedTool(ToolSpec(**spec)) for spec in await self.note(TOOLS, nothing)]

    async def output_of(self, run: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """What the run gave, with "replay": {"identical", "first_difference"}. Raises AttemptOutdated, GraphDrained,
        and what is to be tried again later."""
        output: dict[str, Any] | None = None
        error: HearthError | None = None
        try:
            output = await run
        except (AttemptOutdated, GraphDrained):
            raise
        except Differs:
            logger.info("a replay differs", origin=self._origin.id, difference=self.difference)
        except RunWaits as waits:
            # A replay asks nobody: what was answered then is in the journal.
            (first, *_) = waits.pendings
            now = {"kind": first.kind.value, "name": first.name, "arguments": first.arguments}
            self._differs(kind="request", call=first.id, part="call", then=None, now=now)
        except HearthError as raised:
            if raised.retryable and not any(raised is given for given in self._gave):
                raise
            error = raised
        except Exception as raised:  # noqa: BLE001 - the border of a run: the one that is done again may have ended so
            logger.opt(exception=raised).warning("a workflow failed unexpectedly in a replay")
            error = HearthError()
        if self.difference is None:
            self.difference = self._end_difference(output, error)
        return {
            "text": "",
            "data": None,
            **(output or {}),
            "replay": {"identical": self.difference is None, "first_difference": self.difference},
        }

    def _end_difference(self, output: dict[str, Any] | None, error: HearthError | None) -> Difference | None:
        origin = self._origin
        if self._is_whole:
            calls = self._record.calls.items()
            made = [*self._record.model, *(id_ for id_, call in calls if call.tool_name != NOTE and call.attempt > 0)]
            missing = next((call_id for call_id in made if call_id not in self._used), None)
            if missing is not None:
                is_tool = missing in self._record.calls
                kind = "tool_call" if is_tool else "model_call"
                return _difference(kind=kind, call=missing, part="call", then=_made(self._record, missing), now=None)
        then = {"status": origin.status.value, "error_code": origin.error_code}
        if origin.status is not TaskStatus.FAILED:
            then["error_code"] = None
        now = {
            "status": "completed" if error is None else "failed",
            "error_code": None if error is None else error.code,
        }
        if then != now:
            return _difference(kind="end", call=None, part="end", then=then, now=now)
        before, after = origin.output or {}, orjson.loads(orjson.dumps(output or {}))
        for part in (*before, *(name for name in after if name not in before)):
            if before.get(part) != after.get(part):
                return _difference(
                    kind="output", call=None, part=part, then=_shown(before.get(part)), now=_shown(after.get(part))
                )
        return None

    def _differs(self, *, kind: str, call: str, part: str, then: Any, now: Any) -> Differs:
        if self.difference is None:
            self.difference = _difference(kind=kind, call=call, part=part, then=then, now=now)
        return Differs(call)


class RecordedTool:
    """A tool of the run that is done again. Its results are all in the record, so that nobody comes to call it."""

    def __init__(self, spec: ToolSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        raise Differs(call_id)


def _difference(*, kind: str, call: str | None, part: str, then: Any, now: Any) -> Difference:
    return {"kind": kind, "call": call, "part": part, "then": then, "now": now}


def _made(record: Record, call_id: str) -> Any:
    if call_id in record.calls:
        call = record.calls[call_id]
        return {"tool": call.tool_name, "arguments": call.arguments}
    asked, _ = record.model[call_id]
    return asked


def _shown(value: Any) -> Any:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return value if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _answer_of(said: Event, usage: dict[str, Any]) -> RecordedAnswer:
    data = said.context.get("data")
    return RecordedAnswer(
        text=said.message,
        tool_calls=tuple(ToolCall(**call) for call in said.context.get("tool_calls", [])),
        done=Done(
            model=usage["model"],
            host=usage["host"],
            finish_reason=usage["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            queue_seconds=usage["queue_seconds"],
            load_seconds=usage["load_seconds"],
            first_token_seconds=usage["first_token_seconds"],
            total_seconds=usage["duration_seconds"],
            data=said.message if data is True else data,
        ),
    )
