"""A workflow of steps in a row, each of them made for the test."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from agent_service.workflow import Changes, GraphWorkflow, RunContext, step
from langgraph.graph import END, START, StateGraph

from servers.agent_bench import OUTPUT

type Action = Callable[[RunContext], Awaitable[None]]


class Done(TypedDict, total=False):
    """The names of the steps that were done, and the output."""

    done: list[str]
    output: dict[str, Any]


class Chain(GraphWorkflow):
    """One step after the other; `begun` has every beginning of one."""

    def __init__(self, **actions: Action) -> None:
        self.begun: list[str] = []
        self.reached = asyncio.Event()
        graph = StateGraph(Done, context_schema=RunContext)
        before = START
        for name, action in actions.items():
            graph.add_node(name, step(name, self._step(name, action)))
            graph.add_edge(before, name)
            before = name
        graph.add_edge(before, END)
        super().__init__(graph)

    def _step(self, name: str, action: Action) -> Callable[[Done, RunContext], Awaitable[Changes]]:
        async def run(state: Done, context: RunContext) -> Changes:
            self.begun.append(name)
            await action(context)
            done = [*state.get("done", []), name]
            return {"done": done, "output": {**OUTPUT, "text": " ".join(done)}}

        return run


async def quick(_: RunContext) -> None:
    pass


class Hanging:
    """Hangs at the first call until `go` is set, and not at later ones."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, _: RunContext) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.go.wait()
