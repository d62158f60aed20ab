"""Workflows and a tool of somebody else's, as a worker finds them installed: this folder on PYTHONPATH is enough."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from agent_service.requests import RunWaits
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.workflow import Changes, GraphWorkflow, RunContext, step
from hearth_runtime.events import EventLevel
from hearth_runtime.tasks import Pending, PendingKind
from langgraph.graph import END, START, StateGraph

STEPS = ("first", "second", "third", "fourth")
LINES = 3


class StepsState(TypedDict, total=False):
    """The texts so far, and the output."""

    texts: list[str]
    output: dict[str, Any]


class StepsWorkflow(GraphWorkflow):
    """Four steps in a row: each writes LINES log lines, asks the model, and notes in a file that it was done."""

    def __init__(self) -> None:
        graph = StateGraph(StepsState, context_schema=RunContext)
        before = START
        for name in STEPS:
            graph.add_node(name, step(name, _step(name)))
            graph.add_edge(before, name)
            before = name
        graph.add_edge(before, END)
        super().__init__(graph)


def _step(name: str) -> Callable[[StepsState, RunContext], Awaitable[Changes]]:
    async def run(state: StepsState, context: RunContext) -> Changes:
        for line in range(LINES):
            await context.events.log(EventLevel.INFO, f"{name} line {line}", step=name, line=line)
        answer, _ = await context.model_calls.answer(name, context.prompt())
        await context.tool_calls.make(
            call_id=f"{name}:note",
            tool_name="note",
            arguments={"step": name},
            repeatable=True,
            call=lambda: _note(context.task.id, name),
        )
        texts = [*state.get("texts", []), answer.text]
        return {"texts": texts, "output": {**answer.output(), "text": "\n".join(texts)}}

    return run


class AsksWorkflow(GraphWorkflow):
    """As StepsWorkflow, but each step asks a person where that one asks the model."""

    def __init__(self) -> None:
        graph = StateGraph(StepsState, context_schema=RunContext)
        before = START
        for name in STEPS:
            graph.add_node(name, step(name, _asking(name)))
            graph.add_edge(before, name)
            before = name
        graph.add_edge(before, END)
        super().__init__(graph)


def _asking(name: str) -> Callable[[StepsState, RunContext], Awaitable[Changes]]:
    async def run(state: StepsState, context: RunContext) -> Changes:
        for line in range(LINES):
            await context.events.log(EventLevel.INFO, f"{name} line {line}", step=name, line=line)
        asked = Pending(id=f"{name}:ask", kind=PendingKind.QUESTION, name="ask", arguments={"question": name})
        answer = await context.requests.ask(asked)
        await context.tool_calls.make(
            call_id=f"{name}:note",
            tool_name="note",
            arguments={"step": name},
            repeatable=True,
            call=lambda: _note(context.task.id, name),
        )
        texts = [*state.get("texts", []), answer["output"]]
        return {"texts": texts, "output": _output("\n".join(texts))}

    return run


class NestWorkflow(GraphWorkflow):
    """A run asked for the level N starts two of level N - 1 with the same agent, side by side; their texts are its own,
    in brackets."""

    def __init__(self) -> None:
        graph = StateGraph(StepsState, context_schema=RunContext)
        graph.add_node("nest", step("nest", _nest))
        graph.add_edge(START, "nest")
        graph.add_edge("nest", END)
        super().__init__(graph)


async def _nest(_: StepsState, context: RunContext) -> Changes:
    level = int(context.conversation[-1].content)
    if level == 0:
        return {"output": _output(".")}
    runs = [
        context.requests.run_agent(
            call_id=f"nest:{place}", agent_id=context.agent.id, task_input={"prompt": str(level - 1)}
        )
        for place in range(2)
    ]
    ended = await asyncio.gather(*runs, return_exceptions=True)
    waits = [pending for one in ended if isinstance(one, RunWaits) for pending in one.pendings]
    if waits:
        raise RunWaits(*waits)
    texts = []
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        texts.append(one["output"]["text"] if one["output"] else one["status"])
    return {"output": _output(f"({''.join(texts)})")}


def _output(text: str) -> dict[str, Any]:
    return {"text": text, "data": None, "usage": {}, "model": "none"}


async def _note(task_id: str, name: str) -> bool:
    """Adds a line to the file that the test reads; one short write is whole."""
    line = f"{task_id} {name}\n".encode()
    descriptor = os.open(Path(os.environ["HEARTH_TEST_NOTES"]), os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    return True


class NoteTool:
    """Notes in the file that it was called; calling it again does no harm."""

    spec = ToolSpec(
        name="note",
        description="Notes a word.",
        parameters={
            "type": "object",
            "properties": {"word": {"type": "string", "maxLength": 100}},
            "required": ["word"],
            "additionalProperties": False,
        },
        repeatable=True,
    )

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        await _note(self._task_id, f"{call_id} {arguments['word']}")
        return ToolResult(content=f"{arguments['word']} is noted.")


class NoteKind:
    """`note`."""

    name = "note"
    description = "Notes words in a file of the test's."
    config_schema: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        yield [NoteTool(scope.task_id or "nobody")]
