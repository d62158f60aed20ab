"""The journal of tool calls over a real storage-service: a call is made once, whatever becomes of the worker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.tool_calls import ToolCalls
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.errors import AttemptOutdated, InvalidArgument, ToolCallUnfinished


class Mail:
    """A tool that counts how often it is called."""

    def __init__(self, result: Any = None, *, error: BaseException | None = None) -> None:
        self.calls = 0
        self._result, self._error = result, error

    async def send(self) -> Any:
        self.calls += 1
        if self._error is not None:
            raise self._error
        return self._result


@pytest.fixture(scope="module")
def store(storage: Any) -> StoredCheckpoints:
    return StoredCheckpoints(storage.channel)


@pytest.fixture
async def task_id(storage: Any) -> str:
    """A task that runs in its first attempt."""
    task_id: str = await storage.new_task()
    await storage.claim(task_id)
    return task_id


@pytest.fixture
def attempt_at(storage: Any, store: StoredCheckpoints, task_id: str) -> Callable[[int], Awaitable[ToolCalls]]:
    """Starts that attempt at the task."""

    async def start(attempt: int) -> ToolCalls:
        await storage.sql("UPDATE tasks SET attempt = $2 WHERE id = $1", task_id, attempt)
        return ToolCalls(store, task_id=task_id, attempt=attempt)

    return start


async def make(calls: ToolCalls, mail: Mail, *, call_id: str = "tools:1:0", repeatable: bool = False) -> Any:
    return await calls.make(
        call_id=call_id, tool_name="send_mail", arguments={"to": "you"}, repeatable=repeatable, call=mail.send
    )


async def rows(storage: Any, task_id: str) -> list[Any]:
    return list(await storage.sql("SELECT * FROM tool_calls WHERE task_id = $1 ORDER BY call_id", task_id))


RESULTS: list[Any] = [{"sent": 1, "to": ["é", "\N{GRINNING FACE}"]}, None, "text", 0, False, [], {"a": None}, 2.5]


@pytest.mark.parametrize("result", RESULTS, ids=repr)
async def test_a_finished_call_is_not_made_again(
    attempt_at: Callable[[int], Awaitable[ToolCalls]], result: Any
) -> None:
    mail = Mail(result)
    assert await make(await attempt_at(1), mail) == result
    again = await make(await attempt_at(2), mail)
    assert (again, type(again)) == (result, type(result))
    assert mail.calls == 1


async def test_calls_are_told_apart_by_their_ids(attempt_at: Callable[[int], Awaitable[ToolCalls]]) -> None:
    calls = await attempt_at(1)
    assert await make(calls, Mail("a"), call_id="tools:1:0") == "a"
    assert await make(calls, Mail("b"), call_id="tools:1:1") == "b"


async def test_a_result_with_nul_is_kept(attempt_at: Callable[[int], Awaitable[ToolCalls]]) -> None:
    mail = Mail({"text": "a\0b"})
    assert await make(await attempt_at(1), mail) == {"text": "a\0b"}
    assert await make(await attempt_at(2), mail) == {"text": "a\N{REPLACEMENT CHARACTER}b"}
    assert mail.calls == 1


async def test_a_call_that_was_cut_off_is_made_again_only_if_it_may_be(
    storage: Any, attempt_at: Callable[[int], Awaitable[ToolCalls]], task_id: str
) -> None:
    cut_off = Mail(error=ConnectionError("gone"))
    for call_id, repeatable in (("once", False), ("often", True)):
        with pytest.raises(ConnectionError):
            await make(await attempt_at(1), cut_off, call_id=call_id, repeatable=repeatable)
    second = await attempt_at(2)
    mail = Mail("sent")
    assert await make(second, mail, call_id="often", repeatable=True) == "sent"
    with pytest.raises(ToolCallUnfinished) as caught:
        await make(second, mail, call_id="once")
    assert caught.value.detail == (
        "A call of the tool send_mail was cut off, and may have been made. Find out; if repeating it does no harm, "
        f'start the task again with POST /api/v1/tasks/{task_id}/retry and {{"repeat_tool_calls": true}}.'
    )
    assert not caught.value.retryable
    # Whether it may be repeated is what it was begun with, too.
    with pytest.raises(ToolCallUnfinished):
        await make(second, mail, call_id="once", repeatable=True)
    assert mail.calls == 1
    often, once = await rows(storage, task_id)
    assert (often["call_id"], often["attempt"], often["result"]) == ("often", 2, '"sent"')
    assert (once["call_id"], once["attempt"], once["result"]) == ("once", 1, None)


async def test_a_retry_that_repeats_tool_calls_makes_the_call_again(
    storage: Any, store: StoredCheckpoints, attempt_at: Callable[[int], Awaitable[ToolCalls]], task_id: str
) -> None:
    with pytest.raises(ConnectionError):
        await make(await attempt_at(1), Mail(error=ConnectionError("gone")))
    await storage.sql(
        "UPDATE tasks SET status = 'failed', completed_at = now(), lease_expires_at = NULL WHERE id = $1", task_id
    )
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id, repeat_tool_calls=True))
    assert (await storage.claim(task_id)).task.attempt == 2
    assert await make(ToolCalls(store, task_id=task_id, attempt=2), Mail("sent")) == "sent"


async def test_a_cancelled_call_counts_as_cut_off(attempt_at: Callable[[int], Awaitable[ToolCalls]]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await make(await attempt_at(1), Mail(error=asyncio.CancelledError()))
    with pytest.raises(ToolCallUnfinished):
        await make(await attempt_at(2), Mail())


async def test_the_same_rpc_again_is_harmless(
    storage: Any, store: StoredCheckpoints, attempt_at: Callable[[int], Awaitable[ToolCalls]], task_id: str
) -> None:
    await attempt_at(1)
    for _ in range(2):
        begun = await store.begin_tool_call(
            task_id, attempt=1, call_id="c", tool_name="send_mail", arguments="{}", repeatable=False
        )
        assert begun is None
    for result in ('"first"', '"second"'):
        await store.finish_tool_call(task_id, attempt=1, call_id="c", result=result)
    (row,) = await rows(storage, task_id)
    assert row["result"] == '"first"'


async def test_an_outdated_attempt_changes_nothing(
    storage: Any, store: StoredCheckpoints, attempt_at: Callable[[int], Awaitable[ToolCalls]], task_id: str
) -> None:
    outdated = await attempt_at(1)
    assert await make(outdated, Mail("kept"), call_id="done") == "kept"
    await store.begin_tool_call(task_id, attempt=1, call_id="open", tool_name="t", arguments="{}", repeatable=True)
    await attempt_at(2)
    before = await rows(storage, task_id)
    mail = Mail("late")
    for call_id in ("new", "done", "open"):
        with pytest.raises(AttemptOutdated):
            await make(outdated, mail, call_id=call_id, repeatable=True)
    for call_id in ("new", "done", "open"):
        with pytest.raises(AttemptOutdated):
            await store.finish_tool_call(task_id, attempt=1, call_id=call_id, result="1")
    assert mail.calls == 0
    assert await rows(storage, task_id) == before


@pytest.mark.parametrize("part", ["begin", "finish"])
async def test_an_attempt_that_ends_at_this_moment_is_not_passed(
    storage: Any, store: StoredCheckpoints, task_id: str, part: str
) -> None:
    async def begin(call_id: str) -> None:
        await store.begin_tool_call(task_id, attempt=1, call_id=call_id, tool_name="t", arguments="{}", repeatable=True)

    await begin("open")
    before = await rows(storage, task_id)
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("UPDATE tasks SET attempt = 2 WHERE id = $1", task_id)
            late = (
                begin("new")
                if part == "begin"
                else store.finish_tool_call(task_id, attempt=1, call_id="open", result="1")
            )
            writing = asyncio.ensure_future(late)
            await storage.until_blocked()
        with pytest.raises(AttemptOutdated):
            await writing
    finally:
        await connection.close()
    assert await rows(storage, task_id) == before


async def test_a_result_of_a_call_that_was_not_begun_is_refused(
    storage: Any, store: StoredCheckpoints, attempt_at: Callable[[int], Awaitable[ToolCalls]], task_id: str
) -> None:
    await store.begin_tool_call(task_id, attempt=1, call_id="c", tool_name="t", arguments="{}", repeatable=True)
    await attempt_at(2)
    for call_id in ("c", "never"):
        with pytest.raises(InvalidArgument):
            await store.finish_tool_call(task_id, attempt=2, call_id=call_id, result="1")
    with pytest.raises(InvalidArgument, match="must be JSON"):
        await store.finish_tool_call(task_id, attempt=2, call_id="c", result="{")


@pytest.mark.parametrize(
    ("result", "said"),
    [(object(), "no JSON"), ("\ud800", "no JSON"), ("x" * (40 * 1024 * 1024), "MiB")],
    ids=["object", "surrogate", "large"],
)
async def test_a_result_that_cannot_be_kept_is_told(
    attempt_at: Callable[[int], Awaitable[ToolCalls]], result: Any, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        await make(await attempt_at(1), Mail(result))
