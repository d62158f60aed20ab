"""A workflow of somebody else's, as a worker finds it installed: this folder on PYTHONPATH is enough."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict

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
