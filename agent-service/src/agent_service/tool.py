"""Tools: what an agent can do besides talking, behind one interface whatever kind of tool it is.

A tool's output is somebody else's text: data for the model, bounded, and never an instruction of Hearth's.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import grpc.aio
from hearth_runtime.agents import Agent

from agent_service.requests import Requests
from agent_service.settings import ToolSettings

MAX_NAME_CHARACTERS = 64

# What of Hearth's own the `data` of a tool's results is: passages that were looked up, or how a sub-task ended.
type Gives = Literal["passages", "sub_task"]


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """What a model, and the run, need to know of a tool. `parameters` is a JSON Schema of an object.

    `repeatable` says that a second call does no harm. A result longer than `result_characters` is cut, and says so.
    `gives` is for tools of Hearth's own: a run takes its citations and what sub-tasks used from their `data` alone. Any
    other tool's `data` may be of any shape and says nothing of that kind.
    """

    name: str  # [A-Za-z0-9_-]{1,64}, unique within a run
    description: str
    parameters: dict[str, Any]
    repeatable: bool
    timeout_seconds: float = 30.0
    result_characters: int = 8_000
    needs_approval: bool = False
    gives: Gives | None = None


def tool_names(names: Sequence[str], *, unnamed: str = "tool") -> list[str]:
    """Names for tools that others call so: of the characters that a name may have, and no two alike. One that has no
    such character is `unnamed`."""
    return distinct_names([re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "tool" for name in names])


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, none longer than a name may be, and no two alike."""
    given: list[str] = []
    for name in names:
        candidate, number = name[:MAX_NAME_CHARACTERS], 1
        while candidate in given:
            number += 1
            candidate = f"{name[: MAX_NAME_CHARACTERS - len(str(number)) - 1]}_{number}"
        given.append(candidate)
    return given


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a call gave: `content` for the model, `data` (JSON) for programs. A tool that knows that it failed says so
    by `is_error`, with what the model may do about it in `content`."""

    content: str
    is_error: bool = False
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class ToolScope:
    """For whom a tool works. `task_id`, `requests` and `warn` are None where it is tried by hand, outside any run.

    `timeout_seconds` is how long a call may take; None leaves it to the tool. `warn` tells the run's readers, by a
    message and a code, what the tool goes on without.
    """

    agent: Agent
    session_id: str | None
    task_id: str | None
    requests: Requests | None
    user: str | None = None  # for whom the run is, as the client names them
    timeout_seconds: float | None = None
    warn: Callable[[str, str], Awaitable[None]] | None = None


class Tool(Protocol):
    """One thing that an agent can do."""

    @property
    def spec(self) -> ToolSpec: ...

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        """Does it, with arguments that `spec.parameters` allows. May be cancelled at any await, also by its time-out.

        `call_id` names the call within its task and is the same in every attempt. Raises a retryable HearthError where
        the run is to be tried again later, which holds for a `repeatable` tool alone: of any other it is a result, as
        every error is. Raises RunWaits where somebody must answer first.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ToolHost:
    """What the process lends to its tools."""

    settings: ToolSettings
    storage: grpc.aio.Channel
    inference: grpc.aio.Channel


class ToolKind(Protocol):
    """A kind of tool that an agent can be given: an entry point of the group `hearth.tools`, made without arguments.

    `config_schema` is the JSON Schema of its configuration; properties with `"writeOnly": true` are secrets.
    """

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def config_schema(self) -> dict[str, Any]: ...

    def open(
        self, config: dict[str, Any], scope: ToolScope, host: ToolHost
    ) -> AbstractAsyncContextManager[Sequence[Tool]]:
        """The tools of this kind for one run: often one, many for a server or a document that describes several.

        Raises InvalidArgument where the configuration cannot work, Unavailable where what it needs is away.
        """
        ...
