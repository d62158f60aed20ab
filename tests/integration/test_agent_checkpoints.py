"""LangGraph's checkpointer over a real storage-service: the public conformance suite, fencing, and runs that go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypedDict

import asyncpg
import pytest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.checkpointer import Checkpointer
from hearth_runtime.errors import AttemptOutdated, InvalidArgument
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Turn
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import BASE_CAPABILITIES
from langgraph.checkpoint.conformance.report import ProgressCallbacks
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT
from langgraph.graph import END, START, StateGraph

MIB = 1024 * 1024
# How many tests langgraph-checkpoint-conformance 0.0.2 has for each.
CONFORMANCE_TESTS = {"put": 17, "put_writes": 10, "get_tuple": 10, "list": 16, "delete_thread": 5}

RUN_TASK = """
INSERT INTO tasks (id, agent_id, status, input, request_hash, traceparent, max_retries, attempt, lease_expires_at)
VALUES ($1, $2, 'running', '{}', 'h', '', 3, $3, now() + interval '1 hour')
ON CONFLICT (id) DO UPDATE SET attempt = excluded.attempt
"""


@pytest.fixture(scope="module")
def store(storage: Any) -> StoredCheckpoints:
    return StoredCheckpoints(storage.channel)


@pytest.fixture(scope="module")
async def run_attempt(storage: Any) -> Callable[..., Awaitable[str]]:
    """Sees to it that a task runs in this attempt, and gives its id."""
    agent_id = await storage.new_agent()

    async def start(task_id: str | None = None, *, attempt: int = 1) -> str:
        task_id = task_id or new_id()
        await storage.sql(RUN_TASK, task_id, agent_id, attempt)
        return task_id

    return start


def thread(task_id: str, *, namespace: str = "", **fields: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": task_id, "checkpoint_ns": namespace, **fields}}


def checkpoint_with(**values: Any) -> Checkpoint:
    return {**empty_checkpoint(), "channel_values": values, "channel_versions": dict.fromkeys(values, "1")}


async def put(saver: Checkpointer, config: RunnableConfig, **values: Any) -> RunnableConfig:
    return await saver.aput(config, checkpoint_with(**values), {"source": "loop", "step": 1, "parents": {}}, {})


async def all_rows(storage: Any, task_id: str) -> list[Any]:
    """What there is of a task in the three tables."""
    tables = ("checkpoints", "checkpoint_writes", "tool_calls")
    return [
        await storage.sql(f"SELECT * FROM {table} WHERE task_id = $1 ORDER BY 2, 3, 4", task_id) for table in tables
    ]


# Conformance.


async def test_the_checkpointer_passes_the_public_conformance_suite(
    store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]]
) -> None:
    class ForAnyThread(Checkpointer):
        """The suite makes threads up; here each is a task that runs."""

        async def aput(
            self,
            config: RunnableConfig,
            checkpoint: Checkpoint,
            metadata: CheckpointMetadata,
            new_versions: ChannelVersions,
        ) -> RunnableConfig:
            await run_attempt(config["configurable"]["thread_id"])
            return await super().aput(config, checkpoint, metadata, new_versions)

        async def adelete_thread(self, thread_id: str) -> None:
            await run_attempt(thread_id)
            await super().adelete_thread(thread_id)

    @checkpointer_test(name="Checkpointer")
    async def registered() -> AsyncIterator[Checkpointer]:
        yield ForAnyThread(store, attempt=1)

    failures: list[str] = []

    def note(capability: str, test: str, passed: bool, error: str | None) -> None:
        if not passed:
            failures.append(f"{capability}.{test}: {error}")

    report = await validate(registered, progress=ProgressCallbacks(on_test_result=note))
    assert failures == []
    assert report.passed_all_base()
    assert {name: report.results[name].tests_passed for name in CONFORMANCE_TESTS} == CONFORMANCE_TESTS
    assert {capability.value for capability in BASE_CAPABILITIES} == set(CONFORMANCE_TESTS)
    assert all(report.results[name].detected for name in CONFORMANCE_TESTS)


# Fencing.


type Write = Callable[[Checkpointer, RunnableConfig], Awaitable[object]]

WRITES: dict[str, Write] = {
    "put": lambda saver, config: put(saver, config, text="late"),
    "put_writes": lambda saver, config: saver.aput_writes(config, [("text", "late"), (ERROR, "late")], "step"),
    "put_no_writes": lambda saver, config: saver.aput_writes(config, [], "step"),
    "delete": lambda saver, config: saver.adelete_thread(config["configurable"]["thread_id"]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("ended", ["next_attempt", "finished", "gone_back"])
async def test_an_outdated_attempt_changes_nothing(
    storage: Any, store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]], write: Write, ended: str
) -> None:
    task_id = await run_attempt()
    saver = Checkpointer(store, attempt=1)
    config = await put(saver, thread(task_id), text="kept")
    await saver.aput_writes(config, [("text", "kept"), (ERROR, "kept")], "step")
    before = await all_rows(storage, task_id)
    ends = {
        "next_attempt": "attempt = 2",
        "finished": "status = 'failed', completed_at = now(), lease_expires_at = NULL",
        "gone_back": "status = 'pending', next_attempt_at = now(), lease_expires_at = NULL",
    }
    await storage.sql(f"UPDATE tasks SET {ends[ended]} WHERE id = $1", task_id)
    with pytest.raises(AttemptOutdated, match=f"Task {task_id} is .*; attempt 1 must stop"):
        await write(saver, config)
    assert await all_rows(storage, task_id) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_an_attempt_that_ends_at_this_moment_is_not_passed(
    storage: Any, store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]], write: Write
) -> None:
    task_id = await run_attempt()
    saver = Checkpointer(store, attempt=1)
    config = await put(saver, thread(task_id), text="kept")
    before = await all_rows(storage, task_id)
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE tasks SET attempt = 2 WHERE id = $1", task_id)
            writing = asyncio.ensure_future(write(saver, config))
            await storage.until_blocked()
        with pytest.raises(AttemptOutdated):
            await writing
    finally:
        await connection.close()
    assert await all_rows(storage, task_id) == before


async def test_a_task_that_is_not_there_is_not_written_to(store: StoredCheckpoints) -> None:
    with pytest.raises(AttemptOutdated, match="is not there"):
        await put(Checkpointer(store, attempt=1), thread(new_id()), text="x")


# What is kept.


@pytest.fixture
async def task_id(run_attempt: Callable[..., Awaitable[str]]) -> str:
    return await run_attempt()


async def test_state_and_metadata_come_back_as_they_were(store: StoredCheckpoints, task_id: str) -> None:
    saver = Checkpointer(store, attempt=1)
    state = {
        "turns": [Turn(role="user", content="Grüße, 世界 \N{GRINNING FACE}"), Turn(role="tool", content="a\0b")],
        "nested": {"ünï": [1, 2.5, None, True], "bytes": b"\0\xff"},
        "long": 2**62,
    }
    metadata: Any = {"source": "loop", "step": 3, "parents": {}, "note": "a\0b", "deep": {"k": ["c\0d", "é"]}}
    config = await saver.aput(thread(task_id, namespace="inner:é"), checkpoint_with(**state), metadata, {})
    await saver.aput_writes(config, [("turns", state["turns"])], "step", "~path")
    kept = await saver.aget_tuple(thread(task_id, namespace="inner:é"))
    assert kept is not None
    assert kept.checkpoint["channel_values"] == state
    assert kept.pending_writes == [("step", "turns", state["turns"])]
    # PostgreSQL's text has no NUL: LangGraph drops it at the top, storage-service puts U+FFFD in its place below.
    assert kept.metadata == {**metadata, "note": "ab", "deep": {"k": ["c\N{REPLACEMENT CHARACTER}d", "é"]}}
    assert [t.config async for t in saver.alist(None, filter={"deep": {"k": ["c\0d"]}})] == [kept.config]


async def test_writes_stay_but_for_those_of_the_special_channels(store: StoredCheckpoints, task_id: str) -> None:
    saver = Checkpointer(store, attempt=1)
    config = await put(saver, thread(task_id), a=1)
    for round_ in ("first", "second"):
        writes = [("a", round_), (INTERRUPT, f"{round_} asked"), (INTERRUPT, round_), (ERROR, round_)]
        await saver.aput_writes(config, writes, "step")
    kept = await saver.aget_tuple(config)
    assert kept is not None
    assert kept.pending_writes == [("step", INTERRUPT, "second"), ("step", ERROR, "second"), ("step", "a", "first")]


async def test_writes_come_in_the_order_in_which_a_run_applies_them(store: StoredCheckpoints, task_id: str) -> None:
    saver = Checkpointer(store, attempt=1)
    config = await put(saver, thread(task_id), a=1)
    for step_id, path in (("a", "~2"), ("c", "~1"), ("b", "~1"), ("d", ""), ("e", "Z"), ("f", "a")):
        await saver.aput_writes(config, [("x", 0), ("y", 1)], step_id, path)
    kept = await saver.aget_tuple(config)
    assert kept is not None
    assert kept.pending_writes is not None
    assert [(w[0], w[2]) for w in kept.pending_writes] == [(s, n) for s in "defbca" for n in (0, 1)]


async def test_a_list_is_paged_and_bounded_in_bytes(store: StoredCheckpoints, task_id: str) -> None:
    saver = Checkpointer(store, attempt=1)
    big = [await put(saver, thread(task_id), blob=b"x" * (3 * MIB)) for _ in range(5)]
    await saver.aput_writes(big[2], [("blob", b"y" * (9 * MIB))], "step")
    small = [await put(saver, thread(task_id, namespace=f"n{n % 3}"), n=n) for n in range(45)]
    expected = [config["configurable"]["checkpoint_id"] for config in reversed(big + small)]
    found = [
        t.config["configurable"]["checkpoint_id"] async for t in saver.alist({"configurable": {"thread_id": task_id}})
    ]
    assert found == expected
    query: Any = {"task_id": task_id, "namespace": "", "checkpoint_id": None, "before_id": None, "metadata": {}}
    sizes: list[int] = []
    token = ""
    while not sizes or token:
        page, token = await store.page(size=500, token=token, **query)
        sizes.append(len(page))
    assert sizes == [2, 1, 2]
    limited = [t.config async for t in saver.alist(thread(task_id, namespace="n1"), before=small[40], limit=3)]
    assert limited == [small[37], small[34], small[31]]
    assert [t async for t in saver.alist(thread(task_id), limit=0)] == []


@pytest.mark.parametrize("mib", [17, 40])
async def test_what_is_too_large_is_told_and_not_kept(
    storage: Any, store: StoredCheckpoints, task_id: str, mib: int
) -> None:
    saver = Checkpointer(store, attempt=1)
    config = await put(saver, thread(task_id), text="kept")
    before = await all_rows(storage, task_id)
    with pytest.raises(InvalidArgument, match="MiB") as caught:
        await put(saver, config, blob=b"x" * (mib * MIB))
    assert not caught.value.retryable
    with pytest.raises(InvalidArgument, match="MiB"):
        await saver.aput_writes(config, [("blob", b"x" * (mib * MIB))], "step")
    assert await all_rows(storage, task_id) == before


async def test_the_largest_state_can_be_read_again(store: StoredCheckpoints, task_id: str) -> None:
    saver = Checkpointer(store, attempt=1)
    blob, written = b"x" * (16 * MIB - 1000), b"y" * (5 * MIB - 1000)
    config = await put(saver, thread(task_id), blob=blob)
    for step_id in "abc":
        await saver.aput_writes(config, [("blob", written)], step_id)
    # Again is no more than once.
    await saver.aput_writes(config, [("blob", written)], "a")
    with pytest.raises(InvalidArgument, match="15 MiB after one checkpoint"):
        await saver.aput_writes(config, [("blob", written)], "d")
    kept = await saver.aget_tuple(config)
    assert kept is not None
    assert kept.checkpoint["channel_values"] == {"blob": blob}
    assert kept.pending_writes == [(step_id, "blob", written) for step_id in "abc"]
    assert [t.config async for t in saver.alist(thread(task_id))] == [config]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (thread("thread-1"), "task_id"),
        (thread(new_id(), namespace="é" * 751), "checkpoints[0].namespace"),
    ],
)
async def test_what_cannot_be_kept_names_the_field(
    store: StoredCheckpoints, config: RunnableConfig, field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await put(Checkpointer(store, attempt=1), config, a=1)
    assert [f.field for f in caught.value.fields] == [field]


# Runs that go on.


class State(TypedDict, total=False):
    turns: list[Turn]
    text: str


class Steps:
    """A graph of three steps, the second of which may be held up or fail."""

    def __init__(self, saver: Checkpointer, *, fails: bool = False, waits: bool = False) -> None:
        self.executed: list[str] = []
        self.in_second = asyncio.Event()
        self.go_on = asyncio.Event()
        self._fails, self._waits = fails, waits
        graph = StateGraph(State)
        graph.add_sequence([("first", self._first), ("second", self._second), ("third", self._third)])
        graph.add_edge(START, "first")
        graph.add_edge("third", END)
        self._graph = graph.compile(checkpointer=saver)

    async def run(self, task_id: str, state: State | None) -> Any:
        config: RunnableConfig = {"configurable": {"thread_id": task_id}}
        return await self._graph.ainvoke(state, config, durability="sync")

    async def next_steps(self, task_id: str) -> Sequence[str]:
        return (await self._graph.aget_state({"configurable": {"thread_id": task_id}})).next

    async def _first(self, state: State) -> State:
        self.executed.append("first")
        return {"turns": [*state["turns"], Turn(role="assistant", content="first")]}

    async def _second(self, state: State) -> State:
        self.executed.append("second")
        self.in_second.set()
        if self._fails:
            raise ConnectionError("the worker dies")
        if self._waits:
            await self.go_on.wait()
        return {"text": state["turns"][-1].content + " second"}

    async def _third(self, state: State) -> State:
        self.executed.append("third")
        return {"text": state["text"] + " third"}


BEGIN: State = {"turns": [Turn(role="user", content="hi")]}
END_TEXT = "first second third"


async def test_a_run_that_fails_in_its_second_step_goes_on_with_it(
    store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]]
) -> None:
    task_id = await run_attempt()
    failing = Steps(Checkpointer(store, attempt=1), fails=True)
    with pytest.raises(ConnectionError):
        await failing.run(task_id, BEGIN)
    await run_attempt(task_id, attempt=2)
    again = Steps(Checkpointer(store, attempt=2))
    assert await again.next_steps(task_id) == ("second",)
    state = await again.run(task_id, None)
    assert state == {"turns": [*BEGIN["turns"], Turn(role="assistant", content="first")], "text": END_TEXT}
    assert (failing.executed, again.executed) == (["first", "second"], ["second", "third"])
    assert await again.next_steps(task_id) == ()


async def test_a_run_that_is_killed_in_its_second_step_goes_on_with_it(
    store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]]
) -> None:
    task_id = await run_attempt()
    killed = Steps(Checkpointer(store, attempt=1), waits=True)
    running = asyncio.ensure_future(killed.run(task_id, BEGIN))
    await killed.in_second.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await run_attempt(task_id, attempt=2)
    again = Steps(Checkpointer(store, attempt=2))
    assert (await again.run(task_id, None))["text"] == END_TEXT
    assert (killed.executed, again.executed) == (["first", "second"], ["second", "third"])


async def test_a_worker_that_was_thought_dead_stops_at_its_next_write(
    storage: Any, store: StoredCheckpoints, run_attempt: Callable[..., Awaitable[str]]
) -> None:
    task_id = await run_attempt()
    late = Steps(Checkpointer(store, attempt=1), waits=True)
    running = asyncio.ensure_future(late.run(task_id, BEGIN))
    await late.in_second.wait()
    await run_attempt(task_id, attempt=2)
    again = Steps(Checkpointer(store, attempt=2))
    assert (await again.run(task_id, None))["text"] == END_TEXT
    before = await all_rows(storage, task_id)
    late.go_on.set()
    with pytest.raises(AttemptOutdated):
        await running
    assert late.executed == ["first", "second"]
    assert await all_rows(storage, task_id) == before
