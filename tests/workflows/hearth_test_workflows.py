"""A workflow and a tool of somebody else's, as a worker finds it installed: this folder on PYTHONPATH is enough."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec
from agent_service.workflow import Changes, GraphWorkflow, RunContext, step
from hearth_runtime.events import EventLevel
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
