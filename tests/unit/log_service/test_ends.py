"""Who asks for a task's end at the same time shares the answer, but with nobody who may not see it."""

import asyncio
from typing import Any, cast

import pytest
from hearth_runtime.errors import TaskNotFound
from hearth_runtime.events import StreamId
from hearth_runtime.principals import Principal, acting_for, may_see
from hearth_runtime.tasks import TaskStatus
from log_service.ends import TaskEnd, TaskEnds
from log_service.storage import TaskState


class Stored:
    """A task of Ann's that has completed."""

    def __init__(self) -> None:
        self.asked = 0

    async def state(self, task_id: str) -> TaskState:
        self.asked += 1
        await asyncio.sleep(0)
        if not may_see("ann"):
            raise TaskNotFound
        return TaskState(status=TaskStatus.COMPLETED, end_settled=True)


class Tail:
    async def latest(self) -> StreamId:
        return StreamId(1, 0)


async def test_each_owner_has_an_answer_of_its_own() -> None:
    stored = Stored()
    ends = TaskEnds(cast(Any, stored), cast(Any, Tail()))

    async def look(owner: str) -> TaskEnd | None:
        with acting_for(Principal(owner=owner)):
            return await ends.look("t", since=0)

    async with asyncio.TaskGroup() as group:
        hers = [group.create_task(look("ann")) for _ in range(3)]
        his = group.create_task(_refused(look("bob")))
    assert {task.result() for task in hers} == {
        TaskEnd(status=TaskStatus.COMPLETED, is_settled=True, last_place=StreamId(1, 0))
    }
    assert his.result()
    assert stored.asked == 2


async def _refused(look: Any) -> bool:
    with pytest.raises(TaskNotFound):
        await look
    return True
