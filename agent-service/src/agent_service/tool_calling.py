"""One call of a tool, within its bounds: what goes wrong with it becomes a result that a model can read.

Spans are named as https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/#execute-tool-span has it.
"""

import asyncio
import time
from enum import StrEnum
from typing import Any

import orjson
from hearth_runtime.errors import HearthError
from hearth_runtime.metrics import Bounded
from hearth_runtime.telemetry import note_content, tracer
from loguru import logger
from opentelemetry.trace import Span, Status, StatusCode
from prometheus_client import Counter, Histogram

from agent_service.json_schema import MAX_MESSAGE, violations
from agent_service.requests import RunWaits
from agent_service.tool import Tool, ToolResult, ToolSpec

MAX_DATA_BYTES = 256 * 1024
# Tools are named by whoever describes them, and each name is a row of the metrics.
LABELS = Bounded(200)

CALLS = Counter("hearth_tool_calls_total", "Calls of tools that ended, by tool and outcome", ["tool", "outcome"])
SECONDS = Histogram("hearth_tool_seconds", "Time of a call of a tool", ["tool"])


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    ERROR = "error"  # the tool says that it failed
    INVALID_ARGUMENTS = "invalid_arguments"  # it was not called
    TIMED_OUT = "timed_out"
    FAILED = "failed"  # it raised
    RETRY = "retry"  # it raised what is to be tried again later
    WAITS = "waits"
    CANCELLED = "cancelled"


async def call_tool(tool: Tool, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
    """What the tool gives: `content` cut to its `result_characters`, and `data` left out where it is too large.

    Arguments that its parameters do not allow, a time-out and an exception are results with `is_error`. Raises what is
    to be tried again later, a retryable HearthError of a tool that is repeatable, and RunWaits.
    """
    spec = tool.spec
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": spec.name,
        "gen_ai.tool.call.id": call_id,
    }
    with tracer.start_as_current_span(
        f"execute_tool {spec.name}", attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        started = time.perf_counter()
        outcome = Outcome.CANCELLED
        try:
            note_content(span, gen_ai__tool__call__arguments=lambda: orjson.dumps(arguments, default=str).decode())
            outcome, result = await _call(tool, spec, arguments, call_id)
            note_content(span, gen_ai__tool__call__result=lambda: result.content)
        except RunWaits:
            outcome = Outcome.WAITS
            raise
        except HearthError:
            outcome = Outcome.RETRY
            raise
        finally:
            _record(spec.name, outcome, time.perf_counter() - started, span)
    return _bounded(spec, result)


async def _call(tool: Tool, spec: ToolSpec, arguments: dict[str, Any], call_id: str) -> tuple[Outcome, ToolResult]:
    try:
        wrong = violations(spec.parameters, arguments)
    except ValueError as error:
        logger.warning("a tool's parameters are no JSON Schema", tool=spec.name, error=str(error))
        return Outcome.FAILED, _failure(f"The tool {spec.name} cannot be called: the schema of its parameters {error}.")
    if wrong:
        what = "\n".join(f"- {line}" for line in wrong)
        return Outcome.INVALID_ARGUMENTS, _failure(
            f"The arguments do not fit the parameters of {spec.name}, which was not called:\n{what}"
        )
    try:
        async with asyncio.timeout(spec.timeout_seconds) as timeout:
            result = await tool.call(arguments, call_id=call_id)
    except RunWaits:
        raise
    except HearthError as error:
        # The next attempt could not make a call again that is not repeatable, and the run would end there.
        if error.retryable and spec.repeatable:
            raise
        logger.info("a tool refused a call", tool=spec.name, call_id=call_id, code=error.code, error=error.detail)
        return Outcome.FAILED, _failure(error.detail)
    except Exception as error:  # noqa: BLE001 - the border: a tool is a stranger's code, and the run goes on without it
        if isinstance(error, TimeoutError) and timeout.expired():
            logger.info("a tool took too long", tool=spec.name, call_id=call_id, timeout_seconds=spec.timeout_seconds)
            return Outcome.TIMED_OUT, _failure(
                f"The tool {spec.name} gave no answer within {spec.timeout_seconds:g} seconds and was stopped. "
                "It may have done a part of its work."
            )
        logger.opt(exception=error).warning("a tool failed", tool=spec.name, call_id=call_id)
        return Outcome.FAILED, _failure(
            f"The tool {spec.name} failed: {type(error).__name__}: {str(error)[:MAX_MESSAGE]}"
        )
    return (Outcome.ERROR if result.is_error else Outcome.OK), result


def _failure(content: str) -> ToolResult:
    return ToolResult(content=content, is_error=True)


def _bounded(spec: ToolSpec, result: ToolResult) -> ToolResult:
    content, data = result.content, result.data
    if len(content) > spec.result_characters:
        note = f"[cut: the first {spec.result_characters} of {len(content)} characters]"
        content = f"{content[: spec.result_characters]}\n{note}"
    if data is not None:
        try:
            size = len(orjson.dumps(data))
        except orjson.JSONEncodeError as error:
            logger.warning("a tool's data is no JSON and is left out", tool=spec.name, error=str(error))
            data = None
        else:
            if size > MAX_DATA_BYTES:
                logger.info("a tool's data is too large and is left out", tool=spec.name, bytes=size)
                data = None
    return ToolResult(content=content, is_error=result.is_error, data=data)


def _record(name: str, outcome: Outcome, seconds: float, span: Span) -> None:
    (label,) = LABELS(name)
    CALLS.labels(label, outcome).inc()
    SECONDS.labels(label).observe(seconds)
    span.set_attribute("hearth.tool.outcome", outcome)
    if outcome not in (Outcome.OK, Outcome.WAITS):
        span.set_attribute("error.type", outcome)
        span.set_status(Status(StatusCode.ERROR))
