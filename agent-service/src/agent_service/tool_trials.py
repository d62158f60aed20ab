"""Tools called by hand: to see what one gives before an agent has it, and whether it still works."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import orjson
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.agents import Agent, AgentConfig
from hearth_runtime.errors import FieldViolation, HearthError, InvalidArgument, ToolNotFound, TooManyTrials, Unavailable
from hearth_runtime.identifiers import new_id
from loguru import logger

from agent_service.agent_tools import AgentTool, checked_config, open_secrets, read_secrets, texts_of
from agent_service.json_schema import MAX_MESSAGE
from agent_service.opened_tools import open_tools
from agent_service.requests import RunWaits
from agent_service.secret_fields import value_at
from agent_service.secret_keys import SecretKeys
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope
from agent_service.tool_calling import call_tool
from agent_service.tool_kinds import ToolKinds

OPEN_SECONDS = 20.0
TRIALS = 16
PAGE_SIZE = 500
NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, kw_only=True)
class ToolDescription:
    """A tool as a model sees it."""

    name: str
    description: str
    parameters: dict[str, Any]
    repeatable: bool
    needs_approval: bool
    timeout_seconds: float
    result_characters: int


@dataclass(frozen=True, kw_only=True)
class ToolCheck:
    """Whether a tool can be opened, and what it gives."""

    is_healthy: bool
    detail: str
    tools: tuple[ToolDescription, ...]
    duration_seconds: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a call gave; or, where nothing was called, what there is to call."""

    tool: str | None
    result: ToolResult | None
    duration_seconds: float
    tools: tuple[ToolDescription, ...]


class Agents(Protocol):
    """Where agents are kept. Raises AgentNotFound."""

    async def get(self, agent_id: str) -> Agent: ...


class Tools(Protocol):
    """Where the tools of agents are kept. Raises AgentNotFound, ToolNotFound."""

    async def get(self, agent_id: str, tool_id: str) -> StoredTool: ...

    async def page(self, agent_id: str, *, size: int, token: str) -> tuple[tuple[StoredTool, ...], str]: ...


class ToolTrials:
    """Calls of tools outside any run, at most `TRIALS` at a time."""

    def __init__(
        self,
        agents: Agents,
        tools: Tools,
        kinds: ToolKinds,
        keys: SecretKeys,
        host: ToolHost,
        *,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self._agents = agents
        self._tools = tools
        self._kinds = kinds
        self._keys = keys
        self._host = host
        self._open_seconds = open_seconds
        self._running = 0

    async def check(self, agent_id: str, tool_id: str) -> ToolCheck:
        """Opens the tool as a run would. Raises ToolNotFound, SecretUnreadable, TooManyTrials."""
        row = open_secrets(self._keys, await self._tools.get(agent_id, tool_id))
        agent = await self._agents.get(agent_id)
        started = time.perf_counter()
        detail, found = "", tuple[ToolDescription, ...]()
        try:
            async with self._opened(row, agent) as tools:
                found = _described(tools)
            if not found:
                detail = "There is nothing to call: what the tool stands for is away, or has no tools."
        except TooManyTrials:
            raise
        except HearthError as error:
            detail = error.detail
        return ToolCheck(
            is_healthy=not detail, detail=detail, tools=found, duration_seconds=time.perf_counter() - started
        )

    async def run(
        self,
        name: str,
        *,
        agent_id: str | None,
        tool_config: dict[str, Any] | None,
        tool: str | None,
        arguments: dict[str, Any] | None,
    ) -> Trial:
        """Calls the tool of this name: a kind with `tool_config`; or, of an agent, what it has under that name or,
        where it has none such, of that kind. `tool` says which one of several. Without arguments nothing is called.

        What goes wrong with the tool is a result. Raises InvalidArgument where the configuration cannot work or it is
        not said which tool, ToolNotFound, AgentNotFound, SecretUnreadable, TooManyTrials.
        """
        agent = None if agent_id is None else await self._agents.get(agent_id)
        row = self._row(name, None if agent_id is None else await self._find(agent_id, name), tool_config)
        started = time.perf_counter()
        called: str | None = None
        try:
            async with self._opened(row, agent) as tools:
                if arguments is None:
                    seconds = time.perf_counter() - started
                    return Trial(tool=None, result=None, duration_seconds=seconds, tools=_described(tools))
                chosen = _chosen(tools, tool)
                called = chosen.spec.name
                started = time.perf_counter()
                result = await call_tool(chosen, arguments, call_id=f"try:{new_id()}")
        except RunWaits:
            result = ToolResult(content="This tool waits for an answer, and so works in runs alone.", is_error=True)
        except HearthError as error:
            # What the tool needs may be away, and that is what a trial is to find out. All else is about the request.
            if not error.retryable or isinstance(error, TooManyTrials):
                raise
            result = ToolResult(content=error.detail, is_error=True)
        return Trial(tool=called, result=result, duration_seconds=time.perf_counter() - started, tools=())

    def _row(self, name: str, stored: StoredTool | None, tool_config: dict[str, Any] | None) -> AgentTool:
        """The tool as a row of an agent's, which need not be stored anywhere."""
        if stored is not None and tool_config is None:
            return open_secrets(self._keys, stored)
        kind_name = name if stored is None else stored.tool_name
        try:
            kind = self._kinds.get(kind_name)
        except InvalidArgument as error:
            raise ToolNotFound(error.detail) from error
        known = {} if stored is None else read_secrets(self._keys, stored)
        config, places = checked_config(kind, tool_config or {}, known)
        return AgentTool(
            id=NOBODY,
            agent_id=NOBODY,
            name=kind_name,
            tool_name=kind_name,
            tool_config=config,
            secrets=tuple(text for place in places for text in texts_of(value_at(config, place))),
        )

    async def _find(self, agent_id: str, name: str) -> StoredTool | None:
        of_kind: StoredTool | None = None
        token = ""
        while True:
            rows, token = await self._tools.page(agent_id, size=PAGE_SIZE, token=token)
            for row in rows:
                if row.name == name:
                    return row
                if row.tool_name == name and of_kind is None:
                    of_kind = row
            if not token:
                return of_kind

    @asynccontextmanager
    async def _opened(self, row: AgentTool, agent: Agent | None) -> AsyncIterator[tuple[Tool, ...]]:
        if self._running >= TRIALS:
            raise TooManyTrials(f"{TRIALS} tools are tried at this moment, the most that are. Try again in a moment.")
        self._running += 1
        try:
            async with AsyncExitStack() as stack:
                host = self._host if agent is not None else stack.enter_context(_without_files(self._host))
                scope = ToolScope(agent=agent or _nobody(), session_id=None, task_id=None, requests=None)
                opening = open_tools(row, self._kinds, scope, host)
                try:
                    async with asyncio.timeout(self._open_seconds) as timeout:
                        tools = await stack.enter_async_context(opening)
                except HearthError:
                    raise
                except Exception as error:
                    logger.opt(exception=error).info("a tool cannot be opened", tool=row.name, kind=row.tool_name)
                    if isinstance(error, TimeoutError) and timeout.expired():
                        raise Unavailable(
                            f"The tool could not be opened within {self._open_seconds:g} seconds."
                        ) from error
                    raise Unavailable(
                        f"The tool cannot be opened: {type(error).__name__}: {str(error)[:MAX_MESSAGE]}"
                    ) from error
                yield tools
        finally:
            self._running -= 1


def _chosen(tools: Sequence[Tool], name: str | None) -> Tool:
    names = ", ".join(tool.spec.name for tool in tools)
    if name is None and len(tools) == 1:
        return tools[0]
    for tool in tools:
        if tool.spec.name == name:
            return tool
    message = "must name one of the tools that there are" if name else "must say which of the tools that there are"
    raise InvalidArgument(
        f"`tool` {message}: {names or 'none'}.", fields=[FieldViolation(field="tool", message=f"{message}: {names}")]
    )


def _described(tools: Sequence[Tool]) -> tuple[ToolDescription, ...]:
    return tuple(
        ToolDescription(
            name=tool.spec.name,
            description=tool.spec.description,
            parameters=_plain(tool.spec.parameters),
            repeatable=tool.spec.repeatable,
            needs_approval=tool.spec.needs_approval,
            timeout_seconds=tool.spec.timeout_seconds,
            result_characters=tool.spec.result_characters,
        )
        for tool in tools
    )


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what our messages can carry: a server may say of a number that it is at most 10^30."""
    try:
        orjson.dumps(schema)
    except orjson.JSONEncodeError:
        plain: dict[str, Any] = json.loads(json.dumps(schema, default=str), parse_int=_number)
        return plain
    return schema


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) < 2**63 else float(number)


@contextmanager
def _without_files(host: ToolHost) -> Iterator[ToolHost]:
    """The host with a directory of the trial's own in the place of the agents': owners share none."""
    with TemporaryDirectory(prefix="hearth-trial-", ignore_cleanup_errors=True) as home:
        yield replace(host, settings=host.settings.model_copy(update={"files_home": home}))


def _nobody() -> Agent:
    """An agent that is stored nowhere, for a tool that is tried without one."""
    now = datetime.now(UTC)
    return Agent(
        id=NOBODY,
        name="nobody",
        description="",
        model_name="none",
        config=AgentConfig(),
        created_at=now,
        updated_at=now,
        is_active=True,
    )
