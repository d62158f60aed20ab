"""Who asks for the ends of tasks at the same time shares the answer, but with nobody who may not see it."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest
from hearth_runtime.errors import TaskNotFound, Unavailable
from hearth_runtime.events import StreamId
from hearth_runtime.principals import Principal, acting_for, may_see
from hearth_runtime.tasks import TaskStatus
from log_service import ends as ends_module
from log_service.ends import TaskEnd, TaskEnds
from log_service.storage import TaskState

END = TaskEnd(status=TaskStatus.COMPLETED, is_settled=True, last_place=StreamId(1, 0))


class Stored:
    """Tasks of Ann's: those whose ids begin with c have completed, others run. Answers wait for `going_on`."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.is_asked = asyncio.Event()
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.failure: Exception | None = None

    async def states(self, task_ids: Iterable[str]) -> Mapping[str, TaskState]:
        asked = set(task_ids)
        self.asked.append(asked)
        self.is_asked.set()
        failure = self.failure
        await self.going_on.wait()
        if failure is not None:
            raise failure
        return {id: _state(id) for id in asked if may_see("ann") and id != "unknown"}


def _state(id: str) -> TaskState:
    status = TaskStatus.COMPLETED if id.startswith("c") else TaskStatus.RUNNING
    return TaskState(id=id, status=status, end_settled=True)


class Tail:
    def __init__(self) -> None:
        self.asked = 0

    async def latest(self) -> StreamId:
        self.asked += 1
        return StreamId(1, 0)


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def tail() -> Tail:
    return Tail()


@pytest.fixture
def ends(stored: Stored, tail: Tail) -> TaskEnds:
    return TaskEnds(cast(Any, stored), cast(Any, tail))


async def look(ends: TaskEnds, task_id: str, *, owner: str = "ann", since: float = 0) -> TaskEnd | None:
    with acting_for(Principal(owner=owner)):
        return await ends.look(task_id, since=since)


async def test_each_owner_has_an_answer_of_its_own(stored: Stored, ends: TaskEnds) -> None:
    answers = await asyncio.gather(
        *(look(ends, "c") for _ in range(3)), look(ends, "c", owner="bob"), return_exceptions=True
    )
    assert answers[:3] == [END] * 3
    assert isinstance(answers[3], TaskNotFound)
    assert stored.asked == [{"c"}, {"c"}]


async def test_tasks_that_are_asked_for_at_once_share_a_call(stored: Stored, tail: Tail, ends: TaskEnds) -> None:
    ids = ("c1", "c2", "r", "unknown")
    answers = await asyncio.gather(*(look(ends, id) for id in ids), return_exceptions=True)
    assert answers[:3] == [END, END, None]
    assert isinstance(answers[3], TaskNotFound)
    assert (stored.asked, tail.asked) == ([set(ids)], 1)


async def test_what_is_asked_meanwhile_goes_with_the_next_call(stored: Stored, ends: TaskEnds) -> None:
    stored.going_on.clear()
    first = asyncio.create_task(look(ends, "c1"))
    await stored.is_asked.wait()
    # The first is asked again, since it may have ended after it was looked at.
    others = [asyncio.create_task(look(ends, id, since=time.monotonic())) for id in ("c1", "c2", "r")]
    await asyncio.sleep(0.01)
    assert stored.asked == [{"c1"}]
    stored.going_on.set()
    assert await asyncio.gather(first, *others) == [END, END, END, None]
    assert stored.asked == [{"c1"}, {"c1", "c2", "r"}]


async def test_an_answer_serves_those_to_whom_it_is_new_enough(stored: Stored, ends: TaskEnds) -> None:
    before = time.monotonic()
    assert await look(ends, "c", since=before) == END
    assert await look(ends, "c", since=before) == END
    assert len(stored.asked) == 1
    assert await look(ends, "c", since=time.monotonic()) == END
    assert len(stored.asked) == 2


async def test_a_call_has_a_bound(stored: Stored, ends: TaskEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends_module, "STATES_LIMIT", 2)
    assert await asyncio.gather(*(look(ends, f"c{n}") for n in range(5))) == [END] * 5
    assert [len(asked) for asked in stored.asked] == [2, 2, 1]


async def test_old_answers_are_forgotten(ends: TaskEnds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends_module, "FORGET_SECONDS", 0.0)
    for n in range(5):
        await look(ends, f"c{n}")
    assert len(ends._looks) == 1


async def test_a_call_that_fails_takes_none_of_the_next_with_it(stored: Stored, ends: TaskEnds) -> None:
    stored.going_on.clear()
    stored.failure = Unavailable("away")
    first = asyncio.create_task(look(ends, "c1"))
    await stored.is_asked.wait()
    stored.failure = None
    second = asyncio.create_task(look(ends, "c2"))
    stored.going_on.set()
    with pytest.raises(Unavailable):
        await first
    assert await second == END
