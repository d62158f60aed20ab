"""Tasks that are accepted at the same time are stored together, each with an end of its own; on real storage."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from agent_service.creations import BYTES, TASKS, Creations
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.deadlines import within
from hearth_runtime.errors import (
    AgentNotFound,
    HearthError,
    IdempotencyConflict,
    InvalidArgument,
    QueueFull,
    QuotaExceeded,
    SessionNotFound,
    Unavailable,
)
from hearth_runtime.identifiers import new_id
from hearth_runtime.principals import Principal, acting_for


def create(agent_id: str, **fields: Any) -> task_store_pb2.CreateTaskRequest:
    return task_store_pb2.CreateTaskRequest(
        **{"id": new_id(), "agent_id": agent_id, "input": '{"prompt":"hi"}', "request_hash": "h", **fields}
    )


class Watched:
    """storage-service, which may be held up: how many tasks each call to it had."""

    def __init__(self, storage: Any) -> None:
        self._tasks = storage.tasks
        self.calls: list[int] = []
        self.called = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def CreateTasks(self, request: task_store_pb2.CreateTasksRequest) -> Any:  # noqa: N802 - the stub's
        self.calls.append(len(request.tasks))
        self.called.set()
        await self.free.wait()
        return await self._tasks.CreateTasks(request)


async def test_what_comes_while_others_are_stored_goes_with_the_next_call(storage: Any) -> None:
    watched = Watched(storage)
    creations = Creations(watched)  # type: ignore[arg-type]
    requests = [create(await storage.new_agent()) for _ in range(TASKS + 11)]
    answers = await asyncio.gather(*(creations.create(request) for request in requests))
    assert [answer.task.id for answer in answers] == [request.id for request in requests]
    assert all(answer.created for answer in answers)
    # All were there before the first call was made.
    assert watched.calls == [TASKS, 11]
    watched.calls.clear()
    await creations.create(create(requests[0].agent_id))
    assert watched.calls == [1]


async def test_each_is_accepted_or_refused_by_itself(storage: Any) -> None:
    agent_id, other_id, key, session = await storage.new_agent(), await storage.new_agent(), new_id(), new_id()
    known = await storage.create(create(agent_id, idempotency_key=key))
    requests = [
        create(agent_id),
        create(new_id()),
        create(agent_id, idempotency_key=key),
        create(agent_id, idempotency_key=key, request_hash="other"),
        create(agent_id, input="[]"),
        create(agent_id, session_id=session),
        create(other_id, session_id=session),
        create(agent_id, session_id=session, user="ann", input='{"prompt":"\\u0000"}'),
    ]
    creations = Creations(storage.tasks)
    answers: list[Any] = await asyncio.gather(*(creations.create(r) for r in requests), return_exceptions=True)
    outcomes = [type(answer) if isinstance(answer, HearthError) else answer.created for answer in answers]
    assert outcomes == [True, AgentNotFound, False, IdempotencyConflict, InvalidArgument, True, InvalidArgument, True]
    assert answers[2].task.id == known.task.id
    assert answers[6].fields[0].field == "session_id"
    # Those of one agent take their turns in the order in which they came.
    turns = {str(row["id"]): row["turn"] for row in await storage.sql("SELECT id, turn FROM tasks")}
    assert turns[requests[0].id] < turns[requests[5].id] < turns[requests[7].id]


async def test_one_that_cannot_be_stored_keeps_no_other_from_it(storage: Any) -> None:
    agent_id = await storage.new_agent()
    requests = [create(agent_id), create(agent_id, input='{"prompt":"poison"}'), create(agent_id)]
    await storage.sql("ALTER TABLE tasks ADD CONSTRAINT antidote CHECK (input ->> 'prompt' <> 'poison')")
    try:
        creations = Creations(storage.tasks)
        first, refused, last = await asyncio.gather(
            *(creations.create(request) for request in requests), return_exceptions=True
        )
    finally:
        await storage.sql("ALTER TABLE tasks DROP CONSTRAINT antidote")
    assert isinstance(refused, HearthError)
    assert (refused.code, "service's log" in refused.detail) == ("internal", True)
    assert [first.task.id, last.task.id] == [requests[0].id, requests[2].id]  # type: ignore[union-attr]


async def test_another_owners_session_keeps_no_other_from_being_stored(storage: Any) -> None:
    with acting_for(Principal(owner="ann")):
        hers = new_id()
        await storage.new_task(session_id=hers)
    with acting_for(Principal(owner="bob")):
        agent_id = await storage.new_agent()
        creations = Creations(storage.tasks)
        first, refused, last = await asyncio.gather(
            creations.create(create(agent_id)),
            creations.create(create(agent_id, session_id=hers)),
            creations.create(create(agent_id)),
            return_exceptions=True,
        )
    assert isinstance(refused, SessionNotFound)
    assert first.created  # type: ignore[union-attr]
    assert last.created  # type: ignore[union-attr]


async def test_a_session_is_no_others_for_being_asked_for_in_the_same_call(storage: Any) -> None:
    agent_id, other_id, session = await storage.new_agent(), await storage.new_agent(), new_id()
    await storage.create(create(agent_id, session_id=session))
    creations = Creations(storage.tasks)
    wrong, right = await asyncio.gather(
        creations.create(create(other_id, session_id=session)),
        creations.create(create(agent_id, session_id=session)),
        return_exceptions=True,
    )
    assert isinstance(wrong, InvalidArgument)
    assert right.created  # type: ignore[union-attr]


async def test_owners_share_no_call(storage: Any) -> None:
    creations = Creations(storage.tasks)

    async def accepted(owner: str) -> str:
        with acting_for(Principal(owner=owner)):
            return (await creations.create(create(await storage.new_agent()))).task.id

    for owner, task_id in zip("abc", await asyncio.gather(*map(accepted, "abc")), strict=True):
        (row,) = await storage.sql("SELECT owner FROM tasks WHERE id = $1", task_id)
        assert row["owner"] == owner


async def test_quotas_and_bounds_count_those_of_the_same_call(
    new_database: Callable[[], Awaitable[str]], open_storage: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    async with open_storage(await new_database(), queue_limit_per_agent=3) as storage:
        creations = Creations(storage.tasks)

        async def outcomes(*requests: task_store_pb2.CreateTaskRequest) -> list[Any]:
            answers = await asyncio.gather(*map(creations.create, requests), return_exceptions=True)
            return [type(answer) if isinstance(answer, HearthError) else answer.created for answer in answers]  # type: ignore[union-attr]

        with acting_for(Principal(owner="ann", tasks_per_minute=2)):
            agent_id = await storage.new_agent()
            assert await outcomes(*(create(agent_id) for _ in range(3))) == [True, True, QuotaExceeded]
            # What comes to nothing takes no place.
            for _ in range(3):
                assert await outcomes(create(agent_id)) == [QuotaExceeded]
        with acting_for(None):
            assert await outcomes(create(agent_id), create(agent_id)) == [True, QueueFull]
        agent_id, key = await storage.new_agent(), new_id()
        repeated = [create(agent_id, idempotency_key=key) for _ in range(4)]
        assert sum(outcome is True for outcome in await outcomes(*repeated)) == 1
        assert await outcomes(*(create(agent_id) for _ in range(3))) == [True, True, QueueFull]


async def test_large_ones_go_by_themselves(storage: Any) -> None:
    watched = Watched(storage)
    creations = Creations(watched)  # type: ignore[arg-type]
    agent_id = await storage.new_agent()
    sizes = (0, BYTES - 100_000, BYTES - 100_000, 0, BYTES + 1, 0)
    requests = [create(agent_id, input='{"prompt":"hi' + "x" * size + '"}') for size in sizes]
    await asyncio.gather(*(creations.create(request) for request in requests))
    assert watched.calls == [2, 2, 1, 1]


async def test_who_waits_no_longer_disturbs_nobody(storage: Any) -> None:
    watched = Watched(storage)
    creations = Creations(watched)  # type: ignore[arg-type]
    watched.free.clear()
    agent_id = await storage.new_agent()
    first = asyncio.ensure_future(creations.create(create(agent_id)))
    await watched.called.wait()
    gone, late = (asyncio.ensure_future(creations.create(create(agent_id))) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    first.cancel()
    # Nor does the deadline of one count for the others.
    with within(0.1), pytest.raises(Unavailable, match="storage service does not answer"):
        await creations.create(create(agent_id))
    watched.free.set()
    assert (await late).created
    # What was not under way is not stored for nobody.
    assert watched.calls == [1, 1]


async def test_what_fails_as_a_whole_is_told_to_all_and_the_next_are_stored(storage: Any) -> None:
    agent_id = await storage.new_agent()

    class Away(Watched):
        async def CreateTasks(self, request: task_store_pb2.CreateTasksRequest) -> Any:  # noqa: N802
            if not self.calls:
                self.calls.append(len(request.tasks))
                raise Unavailable("PostgreSQL does not answer.")
            return await super().CreateTasks(request)

    creations = Creations(Away(storage))  # type: ignore[arg-type]
    answers = await asyncio.gather(*(creations.create(create(agent_id)) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert (await creations.create(create(agent_id))).created


async def test_a_call_has_a_bound(storage: Any) -> None:
    agent_id = await storage.new_agent()
    request = task_store_pb2.CreateTasksRequest(tasks=[create(agent_id) for _ in range(101)])
    with pytest.raises(InvalidArgument, match="at most 100"):
        await storage.tasks.CreateTasks(request)
    assert not await storage.sql("SELECT FROM tasks WHERE agent_id = $1", agent_id)
