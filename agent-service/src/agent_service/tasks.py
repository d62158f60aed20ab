"""Tasks: the values that go with a run."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hearth_runtime.agents import Agent, ClientTool
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.tasks import RUNS, Task, Turn

from agent_service.attached import texts_before

ROLES = ("system", "user", "assistant", "tool")

# In the input of a sub-task: what the budget of its parent's run sets, all of it for each sub-task.
BUDGET = "budget"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A task that this worker may run, with all that a run needs. `session_summary` is of the session's turns before
    `session_turns`."""

    task: Task
    agent: Agent
    session_summary: str | None
    session_turns: tuple[Turn, ...]
    traceparent: str
    queued: timedelta
    answers: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DueTask:
    """A task that the dispatcher found, or that changed with another: pending, to be rung for; ended, to be told of; or
    running, to be stopped."""

    task: Task
    traceparent: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A task after a change, and what else of its tree changed with it."""

    task: Task
    affected: tuple[DueTask, ...]


@dataclass(frozen=True, kw_only=True)
class Ended(Change):
    """A task after its end, and the one that its worker may run in its place."""

    next: Claim | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a worker wants to claim: the task of the queue whose turn it is, for so long."""

    worker_id: str
    lease: timedelta
    queue: str = RUNS


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What is stored of a request to run an agent."""

    id: str
    agent_id: str
    input: dict[str, Any]
    session_id: str | None
    idempotency_key: str | None
    request_hash: str
    traceparent: str
    user: str | None = None
    tools: tuple[ClientTool, ...] = ()


def turns_of(task_input: dict[str, Any]) -> tuple[Turn, ...]:
    """The messages that an input stands for, the last of them after the texts of what is attached.

    Raises InvalidArgument where it is neither a prompt nor messages.
    """
    asked = {name: value for name, value in task_input.items() if name not in ("attachments", BUDGET)}
    match asked:
        case {"prompt": str(prompt), **rest} if not rest and prompt:
            return (Turn(role="user", content=texts_before(prompt, task_input)),)
        case {"messages": [*messages], **rest} if not rest and messages:
            turns = [_turn(index, message) for index, message in enumerate(messages)]
            turns[-1] = replace(turns[-1], content=texts_before(turns[-1].content, task_input))
            return tuple(turns)
    message = 'must be {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}'
    raise InvalidArgument(f"input {message}", fields=[FieldViolation(field="input", message=message)])


def _turn(index: int, message: object) -> Turn:
    match message:
        case {"role": str(role), "content": str(content), **rest} if not rest and role in ROLES:
            return Turn(role=role, content=content)
    text = f"needs a role ({', '.join(ROLES)}) and a content"
    raise InvalidArgument(
        f"input.messages.{index} {text}", fields=[FieldViolation(field=f"input.messages.{index}", message=text)]
    )
