"""When a run's checkpoints are sent to storage: as seldom as its promises allow."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.checkpointer import HELD_BYTES, Checkpointer
from agent_service.requests import RunWaits
from hearth_runtime.checkpoints import Checkpoint, CheckpointWrites
from langgraph.graph import END, START, StateGraph


class Puts(StoredCheckpoints):
    """Remembers what it was given, as the numbers of checkpoints and of executions that wrote."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.came = asyncio.Event()

    async def put(
        self, task_id: str, *, attempt: int, checkpoints: Sequence[Checkpoint], writes: Sequence[CheckpointWrites]
    ) -> None:
        assert (task_id, attempt) == ("task", 1)
        self.sizes.append((len(checkpoints), len(writes)))
        self.came.set()


def joined(left: str, right: str) -> str:
    return left + right


class State(TypedDict, total=False):
    text: Annotated[str, joined]


type Step = Any  # an async function from the state to what changes in it


async def write(state: State) -> State:
    return {"text": "x"}


async def run(puts: Puts, *layers: dict[str, Step], saver: Checkpointer | None = None) -> Any:
    """Runs the layers one after the other, the steps of each beside each other."""
    graph = StateGraph(State)
    before: list[str] = [START]
    for layer in layers:
        for name, action in layer.items():
            graph.add_node(name, action)
            for one in before:
                graph.add_edge(one, name)
        before = list(layer)
    for one in before:
        graph.add_edge(one, END)
    compiled = graph.compile(checkpointer=saver or Checkpointer(puts, attempt=1, is_new=True))
    return await compiled.ainvoke({}, {"configurable": {"thread_id": "task"}}, durability="sync")


async def test_each_step_is_one_message_and_the_beginning_goes_with_the_first() -> None:
    puts = Puts()
    assert await run(puts, {"one": write}, {"two": write}) == {"text": "xx"}
    assert puts.sizes == [(3, 0), (1, 0)]


async def test_a_step_that_has_others_beside_it_is_kept_when_it_ends() -> None:
    puts = Puts()

    async def last(state: State) -> State:
        await puts.came.wait()
        return {"text": "y"}

    async with asyncio.timeout(5):
        await run(puts, {"first": write, "last": last})
    assert puts.sizes == [(2, 1), (0, 1), (1, 0)]


async def test_a_step_that_fails_sends_what_was_held_back() -> None:
    puts = Puts()

    async def fail(state: State) -> State:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await run(puts, {"fails": fail})
    assert puts.sizes == [(2, 1)]


async def test_what_is_held_back_is_kept_when_asked_for() -> None:
    puts = Puts()

    async def wait(state: State) -> State:
        raise RunWaits

    saver = Checkpointer(puts, attempt=1, is_new=True)
    graph = StateGraph(State)
    graph.add_node("waits", wait)
    graph.add_edge(START, "waits")
    compiled = graph.compile(checkpointer=saver)
    with pytest.raises(RunWaits):
        await compiled.ainvoke({}, {"configurable": {"thread_id": "task"}}, durability="sync")
    assert puts.sizes == []
    await saver.keep_held()
    await saver.keep_held()
    assert puts.sizes == [(2, 0)]


async def test_the_last_one_is_kept_with_the_end_and_told_of_then() -> None:
    puts, said = Puts(), []
    saver = Checkpointer(puts, attempt=1, is_new=True, holds_last=True)

    async def tell() -> None:
        said.append("two is finished")

    async def fail(held: Sequence[Checkpoint]) -> None:
        raise ConnectionError

    async def keep(held: Sequence[Checkpoint]) -> int:
        assert said == []
        return len(held)

    await run(puts, {"one": write}, {"two": write}, saver=saver)
    assert puts.sizes == [(3, 0)]
    await saver.when_kept(tell)
    with pytest.raises(ConnectionError):
        await saver.kept_with(fail)
    assert said == []
    assert await saver.kept_with(keep) == 1
    assert said == ["two is finished"]
    await saver.keep_held()
    assert puts.sizes == [(3, 0)]
    await saver.when_kept(tell)
    assert len(said) == 2


async def test_a_large_last_one_is_kept_by_itself() -> None:
    puts = Puts()

    async def write_much(state: State) -> State:
        return {"text": "x" * HELD_BYTES}

    await run(puts, {"one": write_much}, saver=Checkpointer(puts, attempt=1, is_new=True, holds_last=True))
    assert puts.sizes == [(3, 0)]
