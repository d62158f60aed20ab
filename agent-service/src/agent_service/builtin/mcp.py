"""The kind `mcp`: the tools of a server that speaks the Model Context Protocol.

Over streamable HTTP, by langchain-mcp-adapters; or over stdio, for the commands that the operator has named.
Protocol: https://modelcontextprotocol.io/specification/2025-06-18/server/tools.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar

import httpx
from hearth_runtime.errors import InvalidArgument, Unavailable
from langchain_mcp_adapters.sessions import StreamableHttpConnection, create_session
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, EmbeddedResource, TextContent, TextResourceContents
from mcp.types import Tool as ServerTool

from agent_service.settings import ToolSettings
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec, tool_names
from agent_service.web import WebFailed, WebTransport
from agent_service.web_config import HEADERS, PRIVATE, web_rules
from agent_service.web_rules import MAX_URL_CHARACTERS, WebRefused

OPEN_SECONDS = 15.0
CLOSE_SECONDS = 5.0
MAX_TOOLS = 200
MAX_PAGES = 20
MAX_DESCRIPTION_CHARACTERS = 2000
AWAY = "tools_away"

type Connection = StreamableHttpConnection | StdioServerParameters


class McpServer:
    """A session with a server. It lives in a task of its own, so that its end ends nothing else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._opened: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._holder = asyncio.create_task(self._hold())
        self.failure = ""

    async def _hold(self) -> None:
        try:
            async with _session(self._connection) as session:
                await session.initialize()
                self._opened.set_result(session)
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001 - the border: whatever a stranger's server does to the session
            self.failure = _reason(error)

    async def tools(self) -> list[ServerTool]:
        """What the server has, MAX_TOOLS at most. Raises Unavailable."""
        session = await self._within(self._opened, OPEN_SECONDS)
        found: list[ServerTool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._within(session.list_tools(cursor=cursor), OPEN_SECONDS)
            found += page.tools
            cursor = page.nextCursor
            if not cursor or len(found) >= MAX_TOOLS:
                break
        return found[:MAX_TOOLS]

    async def call(self, name: str, arguments: dict[str, Any], *, seconds: float) -> CallToolResult:
        """What the tool gives. Raises Unavailable."""
        session = await self._within(self._opened, OPEN_SECONDS)
        call = session.call_tool(name, arguments, read_timeout_seconds=timedelta(seconds=seconds))
        return await self._within(call, seconds)

    async def close(self) -> None:
        """Ends the session, as far as the server lets it within CLOSE_SECONDS."""
        self._closing.set()
        _, late = await asyncio.wait({self._holder}, timeout=CLOSE_SECONDS)
        for task in late:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _within[T](self, awaitable: Awaitable[T], seconds: float) -> T:
        """What comes, unless the time or the session ends before it. Raises Unavailable."""
        waiting = asyncio.ensure_future(awaitable)
        try:
            done, _ = await asyncio.wait({waiting, self._holder}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not waiting.done():
                waiting.cancel()
        if waiting in done:
            try:
                return waiting.result()
            except Exception as error:
                raise Unavailable(f"The MCP server refuses: {_reason(error)}") from error
        if self._holder in done:
            raise Unavailable(f"The MCP server cannot be used: {self.failure or 'it ended the session.'}")
        raise Unavailable(f"The MCP server gave no answer within {seconds:g} seconds.")


class McpTool:
    """A tool of a server."""

    def __init__(self, server: McpServer, tool: ServerTool, *, name: str, timeout_seconds: float) -> None:
        self._server = server
        self._name = tool.name
        self._timeout_seconds = timeout_seconds
        hints = tool.annotations
        self.spec = ToolSpec(
            name=name,
            description=(tool.description or tool.title or tool.name)[:MAX_DESCRIPTION_CHARACTERS],
            parameters=tool.inputSchema,
            # Hints of the server's own; without them a call may do anything.
            repeatable=bool(hints and (hints.readOnlyHint or hints.idempotentHint)),
            timeout_seconds=timeout_seconds,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        try:
            result = await self._server.call(self._name, arguments, seconds=self._timeout_seconds)
        except Unavailable as error:
            return ToolResult(content=error.detail, is_error=True)
        return ToolResult(content=_text(result), is_error=result.isError, data=result.structuredContent)


class McpKind:
    """`mcp`."""

    name = "mcp"
    description = "The tools of an MCP server, over HTTP or as a command that this installation allows."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "minLength": 8,
                "maxLength": MAX_URL_CHARACTERS,
                "pattern": "^https?://",
                "description": "Where the server speaks streamable HTTP",
            },
            "headers": HEADERS,
            "private": PRIVATE,
            "command": {
                "type": "string",
                "maxLength": 100,
                "description": "The name of a command in HEARTH_MCP_COMMANDS, in the place of a URL",
            },
            "env": {
                "type": "object",
                "maxProperties": 50,
                "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]{0,100}$"},
                "additionalProperties": {"type": "string", "maxLength": 4000, "writeOnly": True},
                "description": "Environment variables of the command, those in HEARTH_MCP_ENVIRONMENT; secret",
            },
            "tools": {
                "type": "array",
                "maxItems": MAX_TOOLS,
                "items": {"type": "string", "maxLength": 200},
                "description": "Only these of the server's tools; all if left out",
            },
            "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 60},
            "required": {
                "type": "boolean",
                "default": True,
                "description": "Whether a run waits for a server that is away, or goes on without its tools",
            },
        },
        "oneOf": [{"required": ["url"]}, {"required": ["command"]}],
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        timeout_seconds = scope.timeout_seconds or config.get("timeout_seconds", 60.0)
        server = McpServer(connection_of(config, host.settings, timeout_seconds))
        try:
            try:
                found = await server.tools()
            except Unavailable as error:
                if config.get("required", True):
                    raise
                if scope.warn is not None:
                    await scope.warn(f"The run goes on without this server's tools. {error.detail}", AWAY)
                found = []
            wanted = config.get("tools")
            if wanted is not None and (missing := set(wanted) - {tool.name for tool in found}) and found:
                raise InvalidArgument(f"The MCP server has no tools named {', '.join(sorted(missing))}.")
            chosen = [tool for tool in found if wanted is None or tool.name in wanted]
            yield [
                McpTool(server, tool, name=name, timeout_seconds=timeout_seconds)
                for tool, name in zip(chosen, tool_names([tool.name for tool in chosen]), strict=True)
            ]
        finally:
            await server.close()


def connection_of(config: dict[str, Any], settings: ToolSettings, timeout_seconds: float) -> Connection:
    """How to reach the server. Raises InvalidArgument for a command, or a variable, that the operator has not named."""
    if "command" in config:
        argv = settings.mcp_commands.get(config["command"])
        if not argv:
            known = ", ".join(sorted(settings.mcp_commands)) or "none"
            raise InvalidArgument(
                f"The command {config['command']!r} is not allowed here. HEARTH_MCP_COMMANDS has: {known}."
            )
        # Any variable would do to run another program: PATH, LD_PRELOAD, PYTHONPATH with a file that the agent wrote.
        if unnamed := sorted(set(config.get("env", {})) - set(settings.mcp_environment)):
            known = ", ".join(sorted(settings.mcp_environment)) or "none"
            raise InvalidArgument(
                f"The variables {', '.join(unnamed)} may not be set here. HEARTH_MCP_ENVIRONMENT has: {known}."
            )
        return StdioServerParameters(command=argv[0], args=argv[1:], env=config.get("env"))
    rules = web_rules((config["url"].partition("?")[0],), config, settings, field="`url` or ")

    def client(
        headers: dict[str, str] | None = None, timeout: httpx.Timeout | None = None, auth: httpx.Auth | None = None
    ) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=headers, timeout=timeout, auth=auth, transport=WebTransport(rules), trust_env=False
        )

    return StreamableHttpConnection(
        transport="streamable_http",
        url=config["url"],
        headers=config.get("headers"),
        timeout=timeout_seconds,
        sse_read_timeout=timeout_seconds,
        httpx_client_factory=client,
    )


@asynccontextmanager
async def _session(connection: Connection) -> AsyncIterator[ClientSession]:
    if isinstance(connection, StdioServerParameters):
        # Not by the adapters: they put variables of this process, its secrets among them, in the place of `${NAME}` in
        # `env`, and log what they cannot.
        async with stdio_client(connection) as (read, write), ClientSession(read, write) as session:
            yield session
    else:
        async with create_session(connection) as session:
            yield session


def _text(result: CallToolResult) -> str:
    """What of the result is text; the rest by its name."""
    parts = []
    for part in result.content:
        match part:
            case TextContent():
                parts.append(part.text)
            case EmbeddedResource(resource=TextResourceContents() as resource):
                parts.append(resource.text)
            case _:
                parts.append(f"({part.type}, which is no text)")
    return "\n".join(parts)


def _reason(error: BaseException) -> str:
    """The innermost of the reasons, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, WebRefused | WebFailed):
        return str(error)
    return f"{type(error).__name__}: {error}"[:500]
