"""The spans of an attempt: how long its task waited in the queue, then the attempt itself, and each of its steps.

The attempts of a task, and those of its sub-tasks, are in one trace: that of the request that it came with. Names are
those of https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-agent-spans/ where it has any.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hearth_runtime.errors import HearthError
from hearth_runtime.telemetry import context_of, tracer
from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from agent_service.requests import RunWaits
from agent_service.tasks import Claim


@contextmanager
def attempt_span(claim: Claim) -> Iterator[None]:
    """The attempt as the current span, in the task's own trace, whichever doorbell brought it here."""
    task = claim.task
    context = context_of(claim.traceparent)
    shared: dict[str, AttributeValue] = {
        "hearth.task_id": task.id,
        "hearth.agent_id": task.agent_id,
        "hearth.queue": task.queue,
        "hearth.attempt": task.attempt,
    }
    now = time.time_ns()
    queued_seconds = claim.queued.total_seconds()
    waited = tracer.start_span(
        "queue wait", context=context, attributes=shared, start_time=now - max(0, round(queued_seconds * 1e9))
    )
    waited.end(now)
    attributes: dict[str, AttributeValue] = {
        **shared,
        "hearth.queued_seconds": queued_seconds,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": task.agent_id,
        "gen_ai.agent.name": claim.agent.name,
    }
    if task.session_id is not None:
        attributes["gen_ai.conversation.id"] = task.session_id
    with tracer.start_as_current_span("run attempt", context=context, attributes=attributes):
        yield


def note_outcome(outcome: str) -> None:
    """How the attempt, whose span is the current one, ended."""
    trace.get_current_span().set_attribute("hearth.outcome", outcome)


@contextmanager
def step_span(name: str) -> Iterator[None]:
    """A step of the run's graph as the current span."""
    with tracer.start_as_current_span(
        f"step {name}", attributes={"hearth.step": name}, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except RunWaits:
            span.set_attribute("hearth.outcome", "waiting")
            raise
        except HearthError as error:
            span.set_attribute("error.type", error.code)
            span.set_status(trace.StatusCode.ERROR, error.code)
            raise
