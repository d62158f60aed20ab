"""Tools called by hand: whatever a kind does, the answer says what it was."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agent_service.agent_tools import AgentTools
from agent_service.builtin.files import FilesKind
from agent_service.requests import RunWaits
from agent_service.secret_keys import SecretKeys
from agent_service.settings import ToolSettings
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.tool_trials import NOBODY, TRIALS, ToolTrials
from fakes.agent_tools import Kinds, Rows, tool_draft
from hearth_runtime.agents import Agent, AgentConfig
from hearth_runtime.errors import InvalidArgument, ToolNotFound, TooManyTrials, Unavailable
from hearth_runtime.tasks import Pending, PendingKind

AGENT = "01900000-0000-7000-8000-00000000000a"


class OddTool:
    """A tool that does what the test says."""

    def __init__(self, name: str, act: Callable[[], Awaitable[ToolResult]]) -> None:
        self._act = act
        parameters = {"type": "object", "maxProperties": 10**30}
        self.spec = ToolSpec(name=name, description="Odd.", parameters=parameters, repeatable=True)

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        return await self._act()


class OddKind:
    """A kind that opens as the test says."""

    name = "odd"
    description = "Odd."

    def __init__(self) -> None:
        self.config_schema: dict[str, Any] = {"type": "object"}
        self.names = ["odd"]
        self.scopes: list[ToolScope] = []
        self.closed = 0
        self.changed = asyncio.Condition()
        self.opening: Callable[[], Awaitable[None]] = _at_once
        self.act: Callable[[], Awaitable[ToolResult]] = _fine

    async def opened(self, times: int) -> None:
        """Returns once it was opened so often."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.scopes) >= times)

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        async with self.changed:
            self.scopes.append(scope)
            self.changed.notify_all()
        await self.opening()
        try:
            yield [OddTool(name, self.act) for name in self.names]
        finally:
            self.closed += 1


async def _at_once() -> None:
    pass


async def _fine() -> ToolResult:
    return ToolResult(content="fine")


async def _never() -> Any:
    await asyncio.Event().wait()


def raising(error: Exception) -> Callable[[], Awaitable[Any]]:
    async def act() -> Any:
        raise error

    return act


class Agents:
    """One agent."""

    async def get(self, agent_id: str) -> Agent:
        now = datetime.now(UTC)
        return Agent(
            id=agent_id,
            name="a",
            description="",
            model_name="m",
            config=AgentConfig(),
            created_at=now,
            updated_at=now,
            is_active=True,
        )


@pytest.fixture
def kind() -> OddKind:
    return OddKind()


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def trials(kind: OddKind, rows: Rows, tmp_path: Path) -> ToolTrials:
    anybody: Any = None
    host = ToolHost(settings=ToolSettings(files_home=str(tmp_path)), storage=anybody, inference=anybody)
    return ToolTrials(Agents(), rows, Kinds(kind, FilesKind()), SecretKeys(()), host, open_seconds=0.05)


async def run(trials: ToolTrials, **fields: Any) -> Any:
    return await trials.run("odd", **{"agent_id": None, "tool_config": None, "tool": None, "arguments": {}, **fields})


async def test_a_trial_has_a_scope_outside_any_run_and_is_closed(trials: ToolTrials, kind: OddKind) -> None:
    trial = await run(trials)
    assert (trial.tool, trial.result) == ("odd", ToolResult(content="fine"))
    (scope,) = kind.scopes
    assert (scope.agent.id, scope.session_id, scope.task_id, scope.requests) == (NOBODY, None, None, None)
    assert kind.closed == 1
    await run(trials, agent_id=AGENT)
    assert kind.scopes[1].agent.id == AGENT


async def test_a_trial_without_an_agent_shares_no_files(trials: ToolTrials, tmp_path: Path) -> None:
    async def act(tool: str, agent_id: str | None, **arguments: str) -> ToolResult:
        trial = await trials.run("files", agent_id=agent_id, tool_config=None, tool=tool, arguments=arguments)
        assert trial.result is not None
        return trial.result

    for agent_id, found in ((None, "(empty)"), (AGENT, "mine.txt (2 bytes)")):
        written = await act("files_write", agent_id, path="mine.txt", content="my")
        assert not written.is_error
        assert (await act("files_list", agent_id)).content == found
    assert os.listdir(tmp_path) == [AGENT]


async def test_what_a_kind_does_at_its_opening_is_told(trials: ToolTrials, kind: OddKind, rows: Rows) -> None:
    row = await AgentTools(rows, Kinds(kind), SecretKeys(())).create(AGENT, tool_draft(tool_name="odd", tool_config={}))
    for opening, words in (
        (_never, "within 0.05 seconds"),
        (raising(OSError("no route")), "OSError: no route"),
        (raising(TimeoutError("theirs")), "TimeoutError: theirs"),
        (raising(ExceptionGroup("several", [ValueError("x")])), "ExceptionGroup: several"),
        (raising(Unavailable("It is away.")), "It is away."),
    ):
        kind.opening = opening
        trial = await run(trials)
        assert trial.tool is None
        assert trial.result.is_error
        assert words in trial.result.content
        check = await trials.check(AGENT, row.id)
        assert not check.is_healthy
        assert words in check.detail
    kind.opening = raising(InvalidArgument("The document is none."))
    with pytest.raises(InvalidArgument, match="is none"):
        await run(trials)
    assert (await trials.check(AGENT, row.id)).detail == "The document is none."


async def test_what_needs_a_run_says_so(trials: ToolTrials, kind: OddKind) -> None:
    pending = Pending(id="c", kind=PendingKind.QUESTION, name="ask", arguments={})
    kind.act = raising(RunWaits(pending))
    trial = await run(trials)
    assert trial.result == ToolResult(
        content="This tool waits for an answer, and so works in runs alone.", is_error=True
    )


async def test_of_several_tools_one_is_named(trials: ToolTrials, kind: OddKind, rows: Rows) -> None:
    kind.names = ["read", "write"]
    with pytest.raises(InvalidArgument, match="read, write"):
        await run(trials)
    with pytest.raises(InvalidArgument, match="read, write"):
        await run(trials, tool="delete")
    assert (await run(trials, tool="write")).tool == "write"
    listed = await run(trials, arguments=None)
    assert listed.result is None
    assert [tool.name for tool in listed.tools] == ["read", "write"]
    # A number that no message of ours can carry.
    assert listed.tools[0].parameters == {"type": "object", "maxProperties": 1e30}
    kind.names = []
    row = await AgentTools(rows, Kinds(kind), SecretKeys(())).create(AGENT, tool_draft(tool_name="odd", tool_config={}))
    assert "nothing to call" in (await trials.check(AGENT, row.id)).detail
    with pytest.raises(InvalidArgument, match="none"):
        await run(trials)
    with pytest.raises(ToolNotFound, match="'even'"):
        await trials.run("even", agent_id=None, tool_config=None, tool=None, arguments={})


async def test_trials_at_a_time_are_bounded(trials: ToolTrials, kind: OddKind) -> None:
    kind.act = _never
    going = [asyncio.create_task(run(trials)) for _ in range(TRIALS)]
    await asyncio.wait_for(kind.opened(TRIALS), 10)
    with pytest.raises(TooManyTrials):
        await run(trials)
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    assert kind.closed == TRIALS
    kind.act = _fine
    assert (await run(trials)).result == ToolResult(content="fine")
