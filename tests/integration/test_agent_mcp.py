"""Tools of real MCP servers, over streamable HTTP and stdio, that work, fail, hang and die."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_service.agent_tools import AgentTool
from agent_service.builtin.mcp import McpKind
from agent_service.settings import ToolSettings
from agent_service.tool import Tool, ToolHost, ToolScope
from agent_service.workflow import RunContext
from hearth_runtime.errors import InvalidArgument, Unavailable
from hearth_runtime.events import EventKind, EventLevel
from servers.agent_bench import OUTPUT, Bench
from system.instance import free_port
from system.waiting import until

SERVER = Path(__file__).parents[1] / "servers" / "mcp_server.py"
PRIVATE = ["127.0.0.1"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    chosen = free_port()
    process = subprocess.Popen([sys.executable, SERVER, "--port", str(chosen)])

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", chosen), timeout=1):
                return True
        except OSError:
            return False

    until(answers, what="the MCP server listens")
    yield chosen
    process.terminate()
    process.wait(timeout=10)


@asynccontextmanager
async def opened(
    config: dict[str, Any], *, seconds: float | None = None, **settings: Any
) -> AsyncIterator[dict[str, Tool]]:
    anybody: Any = None
    host = ToolHost(settings=ToolSettings(**settings), storage=anybody, inference=anybody)
    scope = ToolScope(agent=anybody, session_id=None, task_id=None, requests=None, timeout_seconds=seconds)
    async with McpKind().open(config, scope, host) as tools:
        yield {tool.spec.name: tool for tool in tools}


async def call(tool: Tool, **arguments: Any) -> tuple[str, bool]:
    result = await tool.call(arguments, call_id="c")
    return result.content, result.is_error


async def test_tools_over_http(port: int) -> None:
    url = f"http://127.0.0.1:{port}/mcp"
    async with opened({"url": url, "private": PRIVATE, "headers": {"Authorization": "Bearer s"}}) as tools:
        assert set(tools) == {"add", "write_note", "fail", "hang", "die", "header"}
        assert await call(tools["add"], a=2, b=3) == ("5", False)
        assert await call(tools["header"]) == ("Bearer s", False)
        assert tools["add"].spec.repeatable
        assert not tools["write_note"].spec.repeatable
        assert tools["add"].spec.parameters["required"] == ["a", "b"]
        content, is_error = await call(tools["fail"])
        assert is_error
        assert "no luck" in content
        # Several at once, over one session.
        sums = await asyncio.gather(*(call(tools["add"], a=n, b=n) for n in range(5)))
        assert [content for content, _ in sums] == ["0", "2", "4", "6", "8"]


async def test_only_the_tools_that_are_wanted(port: int) -> None:
    url = f"http://127.0.0.1:{port}/mcp"
    async with opened({"url": url, "private": PRIVATE, "tools": ["add"]}) as tools:
        assert set(tools) == {"add"}
    with pytest.raises(InvalidArgument, match="no tools named nothing"):
        async with opened({"url": url, "private": PRIVATE, "tools": ["nothing"]}):
            pass


async def test_a_server_that_is_not_public_has_to_be_named(port: int) -> None:
    with pytest.raises(Unavailable, match="no public address"):
        async with opened({"url": f"http://127.0.0.1:{port}/mcp"}):
            pass


@pytest.mark.parametrize(("own", "seconds"), [(0.5, None), (60, 0.5)])
async def test_a_tool_that_hangs_is_given_up(port: int, own: float, seconds: float | None) -> None:
    config = {"url": f"http://127.0.0.1:{port}/mcp", "private": PRIVATE, "timeout_seconds": own}
    async with opened(config, seconds=seconds) as tools:
        content, is_error = await call(tools["hang"])
        assert is_error
        assert await call(tools["add"], a=1, b=1) == ("2", False)
    assert "0.5" in content or "Timed out" in content


async def test_a_server_that_is_away_says_so() -> None:
    config = {"url": f"http://127.0.0.1:{free_port()}/mcp", "private": PRIVATE}
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with opened(config):
            pass
    async with opened({**config, "required": False}) as tools:
        assert tools == {}


async def test_a_run_that_goes_on_without_a_server_tells_of_it_and_of_no_secret(bench: Bench) -> None:
    port, secret = free_port(), "not-for-your-eyes"
    config = {"url": f"http://127.0.0.1:{port}/{secret}", "private": PRIVATE, "required": False}
    row = AgentTool(id="t", agent_id="a", name="notes", tool_name="mcp", tool_config=config, secrets=(secret,))

    async def work(context: RunContext) -> dict[str, Any]:
        async with context.open_tools() as toolbox:
            assert toolbox.specs == ()
        return OUTPUT

    bench.rows = [row]
    task_id, _, running = await bench.start(work)
    await running
    (told,) = [e for e in await bench.events(task_id) if e.context.get("code") == "tools_away"]
    assert (told.kind, told.level) == (EventKind.LOG, EventLevel.WARNING)
    assert told.message.startswith("notes: The run goes on without this server's tools.")
    assert secret not in told.message


async def test_a_command_that_the_operator_has_named() -> None:
    commands = {"test": [sys.executable, str(SERVER)]}
    config = {"command": "test", "env": {"NOTES_OWNER": "Ann"}}
    async with opened(config, mcp_commands=commands, mcp_environment=["NOTES_OWNER"]) as tools:
        assert await call(tools["write_note"], text="hello") == ("noted hello for Ann", False)


@pytest.mark.parametrize("owner", ["${HEARTH_SECRET_KEY}", "${NOWHERE}", "$HOME", "a${b}c"])
async def test_a_variable_comes_to_the_command_as_it_was_written(
    owner: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HEARTH_SECRET_KEY", "not-for-your-eyes")
    commands = {"test": [sys.executable, str(SERVER)]}
    config = {"command": "test", "env": {"NOTES_OWNER": owner}}
    async with opened(config, mcp_commands=commands, mcp_environment=["NOTES_OWNER"]) as tools:
        assert await call(tools["write_note"], text="hello") == (f"noted hello for {owner}", False)
    assert owner not in caplog.text


async def test_a_command_that_nobody_has_named_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="HEARTH_MCP_COMMANDS has: test"):
        async with opened({"command": "rm"}, mcp_commands={"test": ["true"]}):
            pass


@pytest.mark.parametrize("variable", ["PYTHONPATH", "LD_PRELOAD", "PATH"])
async def test_a_variable_that_nobody_has_named_is_refused(variable: str) -> None:
    config = {"command": "test", "env": {"NOTES_OWNER": "Ann", variable: "/tmp"}}
    with pytest.raises(InvalidArgument, match=f"variables {variable} may not.*HEARTH_MCP_ENVIRONMENT has: NOTES_OWNER"):
        async with opened(config, mcp_commands={"test": ["true"]}, mcp_environment=["NOTES_OWNER"]):
            pass


async def test_a_server_that_dies_ends_nothing_else() -> None:
    commands = {"test": [sys.executable, str(SERVER)]}
    async with opened({"command": "test"}, mcp_commands=commands) as tools:
        _, is_error = await call(tools["die"])
        assert is_error
        _, is_error = await call(tools["add"], a=1, b=1)
        assert is_error
    # Whoever had it open goes on.
    await asyncio.sleep(0)
