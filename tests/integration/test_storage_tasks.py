"""The rules of tasks, over gRPC and on real PostgreSQL."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hearth.agent.v1 import agent_pb2, task_pb2
from hearth.storage.v1 import agent_store_pb2, checkpoint_store_pb2, checkpoint_store_pb2_grpc, task_store_pb2
from hearth_runtime.codec import duration
from hearth_runtime.errors import (
    AgentInactive,
    AgentNotFound,
    AttemptOutdated,
    CheckpointNotFound,
    IdempotencyConflict,
    InvalidArgument,
    NoTaskWaits,
    TaskFinished,
    TaskNotFound,
    TaskNotRetryable,
    ToolCallUnfinished,
)
from hearth_runtime.identifiers import new_id

Status = task_pb2.Task
LEASE = duration(timedelta(seconds=30))


def create(agent_id: str, **fields: Any) -> task_store_pb2.CreateTaskRequest:
    return task_store_pb2.CreateTaskRequest(
        **{"id": new_id(), "agent_id": agent_id, "input": '{"prompt":"hi"}', "request_hash": "h", **fields}
    )


def finish(task_id: str, attempt: int, status: Any = Status.STATUS_COMPLETED, **fields: Any) -> Any:
    return task_store_pb2.FinishTaskRequest(id=task_id, attempt=attempt, status=status, **fields)


def release(task_id: str, attempt: int, *, is_retry: bool, delay: float = 0, **fields: Any) -> Any:
    return task_store_pb2.ReleaseTaskRequest(
        id=task_id, attempt=attempt, is_retry=is_retry, delay=duration(timedelta(seconds=delay)), **fields
    )


async def get(storage: Any, task_id: str) -> Any:
    return (await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))).task


async def cancel(storage: Any, task_id: str) -> Any:
    return (await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))).task


async def test_a_task_from_its_creation_to_its_end(storage: Any) -> None:
    agent_id = await storage.new_agent(name="walker", config=agent_pb2.AgentConfig(max_retries=1, stop=["x"]))
    answer = await storage.create(create(agent_id, traceparent="00-ab-cd-01"))
    task = answer.task
    assert answer.created
    assert (task.status, task.attempt, task.input) == (Status.STATUS_PENDING, 0, '{"prompt":"hi"}')
    assert not task.HasField("output")
    assert not task.HasField("started_at")

    claim = await storage.claim(task.id)
    assert (claim.task.status, claim.task.attempt) == (Status.STATUS_RUNNING, 1)
    assert claim.task.started_at.ToDatetime() > task.created_at.ToDatetime()
    assert (claim.agent.name, claim.agent.config.max_retries, list(claim.agent.config.stop)) == ("walker", 1, ["x"])
    assert claim.traceparent == "00-ab-cd-01"
    assert timedelta() < claim.queued.ToTimedelta() < timedelta(seconds=30)
    assert not claim.session_turns

    assert await storage.extend((task.id, 1)) == {(task.id, 1): False}
    ended = (await storage.tasks.FinishTask(finish(task.id, 1, output='{"text":"hello"}'))).task
    finished = await get(storage, task.id)
    ended.input, ended.output = finished.input, finished.output
    assert ended == finished
    assert (finished.status, finished.output) == (Status.STATUS_COMPLETED, '{"text":"hello"}')
    assert finished.completed_at.ToDatetime() > finished.started_at.ToDatetime()
    (attempt,) = await storage.sql("SELECT * FROM task_attempts WHERE task_id = $1", task.id)
    assert (attempt["attempt"], attempt["worker_id"], attempt["outcome"]) == (1, "w", "completed")
    assert attempt["ended_at"] is not None


async def test_the_states_of_tasks_are_told_together(storage: Any) -> None:
    waiting, running, cancelled = [await storage.new_task() for _ in range(3)]
    await storage.claim(running)
    await cancel(storage, cancelled)
    request = task_store_pb2.GetTaskStatesRequest(ids=[waiting, running, cancelled, new_id(), "no-uuid"])
    assert {
        (state.id, state.status, state.end_settled) for state in (await storage.tasks.GetTaskStates(request)).states
    } == {
        (waiting, Status.STATUS_PENDING, False),
        (running, Status.STATUS_RUNNING, False),
        (cancelled, Status.STATUS_CANCELLED, False),
    }
    with pytest.raises(InvalidArgument, match="ids"):
        await storage.tasks.GetTaskStates(task_store_pb2.GetTaskStatesRequest(ids=[new_id()] * 501))


async def test_a_task_needs_an_agent_that_is_there_and_active(storage: Any) -> None:
    with pytest.raises(AgentNotFound, match="GET /api/v1/agents"):
        await storage.create(create(new_id()))
    agent_id = await storage.new_agent()
    await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
    with pytest.raises(AgentInactive, match="PUT"):
        await storage.create(create(agent_id))
    assert not await storage.sql("SELECT FROM tasks WHERE agent_id = $1", agent_id)


async def test_requests_that_are_not_valid_name_the_field(storage: Any) -> None:
    agent_id = await storage.new_agent()
    for field, request in {
        "id": create(agent_id, id="no-uuid"),
        "agent_id": create("no-uuid"),
        "session_id": create(agent_id, session_id="no-uuid"),
        "input": create(agent_id, input="[1]"),
        "request": create(agent_id, input="{"),
        "idempotency_key": create(agent_id, idempotency_key="k" * 256),
    }.items():
        with pytest.raises(InvalidArgument) as caught:
            await storage.create(request)
        assert [violation.field for violation in caught.value.fields] == [field]
    for call in (get, cancel):
        with pytest.raises(TaskNotFound):
            await call(storage, "no-uuid")
        with pytest.raises(TaskNotFound):
            await call(storage, new_id())
    with pytest.raises(InvalidArgument, match="lease"):
        await storage.tasks.ClaimTask(task_store_pb2.ClaimTaskRequest(worker_id="w"))
    with pytest.raises(InvalidArgument, match="status"):
        await storage.tasks.FinishTask(finish(new_id(), 1, Status.STATUS_RUNNING))


async def test_repeating_a_creation_with_its_id_is_harmless(storage: Any) -> None:
    agent_id = await storage.new_agent()
    request = create(agent_id)
    first = await storage.create(request)
    assert await storage.create(request) == first


async def test_an_idempotency_key_stands_for_one_request(storage: Any) -> None:
    agent_id, key = await storage.new_agent(), new_id()
    first = await storage.create(create(agent_id, idempotency_key=key))
    again = await storage.create(create(agent_id, idempotency_key=key))
    assert first.created
    assert not again.created
    assert again.task == first.task
    with pytest.raises(IdempotencyConflict, match="new key"):
        await storage.create(create(agent_id, idempotency_key=key, request_hash="other"))
    # A repetition is answered even where a new run would not be.
    await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
    assert (await storage.create(create(agent_id, idempotency_key=key))).task == first.task


@pytest.mark.parametrize("with_session", [False, True])
async def test_twenty_equal_requests_at_once_make_one_task(storage: Any, with_session: bool) -> None:
    agent_id, key = await storage.new_agent(), new_id()
    session = {"session_id": new_id()} if with_session else {}
    answers = await asyncio.gather(
        *(storage.create(create(agent_id, idempotency_key=key, **session)) for _ in range(20))
    )
    assert len({answer.task.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert len(await storage.sql("SELECT FROM tasks WHERE agent_id = $1", agent_id)) == 1


@pytest.mark.parametrize("commits", [True, False])
async def test_a_request_waits_for_an_equal_one_that_is_just_being_accepted(storage: Any, commits: bool) -> None:
    agent_id, key, first = await storage.new_agent(), new_id(), new_id()
    other = await asyncpg.connect(storage.settings.database_url)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at,"
            " idempotency_key) VALUES ($1, $2, 'pending', '{}', 3, 'h', '', now(), $3)",
            first,
            agent_id,
            key,
        )
        second = asyncio.ensure_future(storage.create(create(agent_id, idempotency_key=key)))
        await storage.until_blocked()
        await (transaction.commit() if commits else transaction.rollback())
        answer = await second
    finally:
        await other.close()
    assert answer.created is not commits
    assert (answer.task.id == first) is commits


async def test_of_fifty_claims_at_once_one_wins(storage: Any) -> None:
    await storage.empty_queue()
    task_id = await storage.new_task()
    results = await asyncio.gather(*(storage.claim_next() for _ in range(50)), return_exceptions=True)
    won = [r for r in results if not isinstance(r, BaseException)]
    assert [(claim.task.id, claim.task.attempt) for claim in won] == [(task_id, 1)]
    assert Counter(type(r) for r in results if isinstance(r, BaseException)) == {NoTaskWaits: 49}
    assert len(await storage.sql("SELECT FROM task_attempts WHERE task_id = $1", task_id)) == 1


async def test_only_a_task_that_waits_and_is_due_can_be_claimed(storage: Any) -> None:
    await storage.empty_queue()
    with pytest.raises(NoTaskWaits):
        await storage.claim_next()
    task_id = await storage.new_task()
    await storage.claim(task_id)
    with pytest.raises(NoTaskWaits):
        await storage.claim_next()
    await storage.tasks.ReleaseTask(release(task_id, 1, is_retry=True, delay=60))
    with pytest.raises(NoTaskWaits):
        await storage.claim_next()
    await cancel(storage, task_id)
    with pytest.raises(NoTaskWaits):
        await storage.claim_next()


async def test_a_session_gives_its_earlier_turns(storage: Any) -> None:
    agent_id, session_id = await storage.new_agent(), new_id()
    turns = [task_store_pb2.Turn(role="user", content="hi\0"), task_store_pb2.Turn(role="assistant", content="hello")]
    first = await storage.new_task(agent_id=agent_id, session_id=session_id)
    assert not (await storage.claim(first)).session_turns
    await storage.tasks.FinishTask(finish(first, 1, new_turns=turns))
    # Harmless: the turns are there once.
    await storage.tasks.FinishTask(finish(first, 1, new_turns=turns))
    second = await storage.new_task(agent_id=agent_id, session_id=session_id)
    assert [(t.role, t.content) for t in (await storage.claim(second)).session_turns] == [
        ("user", "hi\N{REPLACEMENT CHARACTER}"),
        ("assistant", "hello"),
    ]
    with pytest.raises(InvalidArgument, match="another agent") as caught:
        await storage.new_task(session_id=session_id)
    assert caught.value.fields[0].field == "session_id"


async def test_turns_of_runs_that_end_at_once_are_all_kept(storage: Any) -> None:
    agent_id, session_id = await storage.new_agent(), new_id()
    ids = await asyncio.gather(*(storage.new_task(agent_id=agent_id, session_id=session_id) for _ in range(8)))
    for task_id in ids:
        await storage.claim(task_id)
    turn = [task_store_pb2.Turn(role="user", content="x")]
    await asyncio.gather(*(storage.tasks.FinishTask(finish(task_id, 1, new_turns=turn)) for task_id in ids))
    last = await storage.claim(await storage.new_task(agent_id=agent_id, session_id=session_id))
    assert len(last.session_turns) == 8


async def test_an_outdated_attempt_changes_nothing(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    await storage.tasks.ReleaseTask(release(task_id, 1, is_retry=False))
    await storage.claim(task_id)
    before = await get(storage, task_id)
    assert before.attempt == 2
    for call in (
        storage.tasks.FinishTask(finish(task_id, 1)),
        storage.tasks.ReleaseTask(release(task_id, 1, is_retry=True)),
        storage.tasks.FinishTask(finish(new_id(), 1)),
    ):
        with pytest.raises(AttemptOutdated, match="write nothing more"):
            await call
    assert await storage.extend((task_id, 1), (new_id(), 1)) == {}
    assert await get(storage, task_id) == before


async def test_leases_are_extended_together(storage: Any) -> None:
    ids = [await storage.new_task() for _ in range(3)]
    for task_id in ids:
        await storage.claim(task_id, lease_seconds=1)
    going_on, cancelled, ended = ids
    await cancel(storage, cancelled)
    await storage.tasks.FinishTask(finish(ended, 1))
    assert await storage.extend(*((task_id, 1) for task_id in ids)) == {(going_on, 1): False, (cancelled, 1): True}
    far = "lease_expires_at > now() + interval '20 s'"
    assert len(await storage.sql(f"SELECT FROM tasks WHERE id = ANY ($1) AND {far}", ids)) == 2
    with pytest.raises(InvalidArgument, match="attempts"):
        await storage.extend(*((going_on, 1) for _ in range(501)))


async def test_a_row_in_somebodys_hands_keeps_no_other_lease_from_being_extended(storage: Any) -> None:
    ids = [await storage.new_task() for _ in range(2)]
    for task_id in ids:
        await storage.claim(task_id, lease_seconds=1)
    locked, free = ids
    connection = await asyncpg.connect(storage.settings.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM tasks WHERE id = $1 FOR UPDATE", locked)
            extending = asyncio.create_task(storage.extend((locked, 1), (free, 1)))
            await storage.until_blocked()
            extended = "SELECT id FROM tasks WHERE id = ANY ($1) AND lease_expires_at > now() + interval '20 s'"
            assert [str(row["id"]) for row in await storage.sql(extended, ids)] == [free]
        assert await extending == {(free, 1): False, (locked, 1): False}
    finally:
        await connection.close()


async def test_finishing_again_is_harmless_but_only_the_same_way(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    first = await storage.tasks.FinishTask(finish(task_id, 1, output='{"text":"a"}'))
    assert await storage.tasks.FinishTask(finish(task_id, 1, output='{"text":"b"}')) == first
    with pytest.raises(AttemptOutdated):
        await storage.tasks.FinishTask(finish(task_id, 1, Status.STATUS_FAILED))
    with pytest.raises(AttemptOutdated):
        await storage.tasks.ReleaseTask(release(task_id, 1, is_retry=True))


NEXT = task_store_pb2.ClaimTaskRequest(worker_id="w", lease=LEASE)


@pytest.mark.parametrize("in_session", [False, True])
async def test_an_end_claims_the_task_whose_turn_it_is(storage: Any, in_session: bool) -> None:
    await storage.empty_queue()
    session = {"session_id": new_id(), "agent_id": await storage.new_agent()} if in_session else {}
    first, second, third = [await storage.new_task(**session) for _ in range(3)]
    await storage.claim(first)
    turns = [task_store_pb2.Turn(role="user", content="hi")] if in_session else []
    ended = await storage.tasks.FinishTask(finish(first, 1, output='{"text":"a"}', new_turns=turns, next=NEXT))
    # Its worker has the rest, and both tasks in full may be more than a message holds.
    assert (ended.task.id, ended.task.status) == (first, Status.STATUS_COMPLETED)
    assert (ended.task.input, ended.task.output) == ("{}", "")
    assert (await get(storage, first)).output == '{"text":"a"}'
    claim = ended.next
    assert (claim.task.id, claim.task.status, claim.task.attempt) == (second, Status.STATUS_RUNNING, 1)
    assert (claim.agent.id, claim.task.input) == (claim.task.agent_id, (await get(storage, second)).input)
    assert [turn.content for turn in claim.session_turns] == (["hi"] if in_session else [])
    (row,) = await storage.sql("SELECT worker_id, lease_expires_at - now() AS lease FROM tasks WHERE id = $1", second)
    assert row["worker_id"] == "w"
    assert timedelta(0) < row["lease"] <= LEASE.ToTimedelta()
    # Whoever lost that answer gets no other task for it.
    assert not (await storage.tasks.FinishTask(finish(first, 1, new_turns=turns, next=NEXT))).HasField("next")
    assert (await get(storage, third)).status == Status.STATUS_PENDING


async def test_an_end_claims_nothing_unasked_or_outdated_or_where_nothing_waits(storage: Any) -> None:
    await storage.empty_queue()
    first, second = await storage.new_task(), await storage.new_task()
    await storage.claim(first)
    with pytest.raises(AttemptOutdated):
        await storage.tasks.FinishTask(finish(first, 7, next=NEXT))
    elsewhere = task_store_pb2.ClaimTaskRequest(worker_id="w", lease=LEASE, queue="elsewhere")
    ended = await storage.tasks.FinishTask(finish(first, 1, next=elsewhere))
    assert not ended.HasField("next")
    assert (await get(storage, second)).status == Status.STATUS_PENDING
    await storage.claim(second)
    assert not (await storage.tasks.FinishTask(finish(second, 1, next=NEXT))).HasField("next")
    third, fourth = await storage.new_task(), await storage.new_task()
    await storage.claim(third)
    assert not (await storage.tasks.FinishTask(finish(third, 1))).HasField("next")
    assert (await get(storage, fourth)).status == Status.STATUS_PENDING


async def test_what_an_end_is_to_claim_is_checked(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    for wrong in (
        task_store_pb2.ClaimTaskRequest(worker_id="w"),
        task_store_pb2.ClaimTaskRequest(lease=LEASE),
    ):
        with pytest.raises(InvalidArgument):
            await storage.tasks.FinishTask(finish(task_id, 1, next=wrong))
    assert (await get(storage, task_id)).status == Status.STATUS_RUNNING


async def test_the_last_checkpoint_is_kept_with_the_end_or_not_at_all(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    state = checkpoint_store_pb2.TypedBytes(type="msgpack", data=b"x")
    last = checkpoint_store_pb2.Checkpoint(task_id=task_id, id="9", parent_id="8", checkpoint=state, metadata="{}")
    with pytest.raises(AttemptOutdated):
        await storage.tasks.FinishTask(finish(task_id, 2, checkpoints=[last]))
    stub = checkpoint_store_pb2_grpc.CheckpointStoreServiceStub(storage.channel)
    known = checkpoint_store_pb2.GetCheckpointRequest(task_id=task_id)
    with pytest.raises(CheckpointNotFound):
        await stub.GetCheckpoint(known)
    for _ in range(2):
        await storage.tasks.FinishTask(finish(task_id, 1, checkpoints=[last]))
        assert (await stub.GetCheckpoint(known)).checkpoint == last


async def test_a_checkpoint_of_another_task_is_not_kept_with_the_end(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    other = checkpoint_store_pb2.Checkpoint(task_id=new_id(), id="9", metadata="{}")
    other.checkpoint.type = "null"
    with pytest.raises(InvalidArgument) as caught:
        await storage.tasks.FinishTask(finish(task_id, 1, checkpoints=[other]))
    assert [f.field for f in caught.value.fields] == ["checkpoints[0].task_id"]
    assert (await get(storage, task_id)).status == Status.STATUS_RUNNING


async def test_a_retry_counts_and_waits_and_keeps_its_error(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    released = (
        await storage.tasks.ReleaseTask(
            release(task_id, 1, is_retry=True, delay=40, error_code="model_timeout", error_message="Too slow.")
        )
    ).task
    assert (released.status, released.retry_count, released.attempt) == (Status.STATUS_PENDING, 1, 1)
    assert (released.error_code, released.error_message) == ("model_timeout", "Too slow.")
    (row,) = await storage.sql("SELECT next_attempt_at - now() AS wait, rung_at FROM tasks WHERE id = $1", task_id)
    assert timedelta(seconds=30) < row["wait"] <= timedelta(seconds=40)
    assert row["rung_at"] is None
    (attempt,) = await storage.sql("SELECT * FROM task_attempts WHERE task_id = $1", task_id)
    assert (attempt["outcome"], attempt["error_code"]) == ("retried", "model_timeout")


async def test_a_hand_over_is_at_once_and_does_not_count(storage: Any) -> None:
    task_id = await storage.new_task()
    started = (await storage.claim(task_id)).task.started_at
    released = (await storage.tasks.ReleaseTask(release(task_id, 1, is_retry=False, delay=60))).task
    assert (released.status, released.retry_count) == (Status.STATUS_PENDING, 0)
    claim = await storage.claim(task_id)
    assert (claim.task.attempt, claim.task.started_at) == (2, started)
    rows = await storage.sql("SELECT outcome FROM task_attempts WHERE task_id = $1 ORDER BY attempt", task_id)
    assert [row["outcome"] for row in rows] == ["handed_over", None]


async def test_cancel_of_a_queued_task_is_at_once(storage: Any) -> None:
    task_id = await storage.new_task()
    cancelled = await cancel(storage, task_id)
    assert cancelled.status == Status.STATUS_CANCELLED
    assert cancelled.HasField("completed_at")
    with pytest.raises(TaskFinished, match="cancelled already") as caught:
        await cancel(storage, task_id)
    assert caught.value.metadata["status"] == "cancelled"


@pytest.mark.parametrize("is_retry", [True, False])
async def test_cancel_of_a_running_task_is_asked_for_and_ends_it_when_given_back(storage: Any, is_retry: bool) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    asked = await cancel(storage, task_id)
    assert (asked.status, asked.cancel_requested) == (Status.STATUS_RUNNING, True)
    assert await cancel(storage, task_id) == asked
    assert await storage.extend((task_id, 1)) == {(task_id, 1): True}
    released = (await storage.tasks.ReleaseTask(release(task_id, 1, is_retry=is_retry, delay=5))).task
    assert (released.status, released.retry_count) == (Status.STATUS_CANCELLED, 0)
    assert released.HasField("completed_at")
    with pytest.raises(TaskFinished):
        await cancel(storage, task_id)


async def test_a_task_is_cancelled_or_claimed_but_never_both(storage: Any) -> None:
    await storage.empty_queue()
    for _ in range(10):
        task_id = await storage.new_task()
        cancelling = asyncio.create_task(cancel(storage, task_id))
        try:
            await storage.claim_next()
        except NoTaskWaits:
            claimed = False
        else:
            claimed = True
        cancelled = await cancelling
        if not claimed:
            assert cancelled.status == Status.STATUS_CANCELLED
        else:
            assert cancelled.status == Status.STATUS_RUNNING
            assert cancelled.cancel_requested


async def test_pages_are_complete_while_tasks_are_added(storage: Any) -> None:
    agent_id = await storage.new_agent()
    before = [await storage.new_task(agent_id=agent_id) for _ in range(25)]
    seen: list[str] = []
    token = ""
    while True:
        page = await storage.tasks.ListTasks(
            task_store_pb2.ListTasksRequest(page_size=4, page_token=token, agent_id=agent_id)
        )
        seen += [task.id for task in page.tasks]
        await storage.new_task(agent_id=agent_id)
        token = page.next_page_token
        if not token:
            break
    assert seen == before[::-1]


async def test_the_filters_of_a_list(storage: Any) -> None:
    agent_id = await storage.new_agent()
    ids = [await storage.new_task(agent_id=agent_id) for _ in range(4)]
    await storage.claim(ids[0])
    middle = (await cancel(storage, ids[1])).created_at

    async def listed(**fields: Any) -> list[str]:
        request = task_store_pb2.ListTasksRequest(page_size=500, agent_id=agent_id, **fields)
        return [task.id for task in (await storage.tasks.ListTasks(request)).tasks]

    assert await listed(statuses=[Status.STATUS_RUNNING]) == [ids[0]]
    assert await listed(statuses=[Status.STATUS_RUNNING, Status.STATUS_CANCELLED]) == [ids[1], ids[0]]
    assert await listed(created_after=middle) == [ids[3], ids[2], ids[1]]
    assert await listed(created_before=middle) == [ids[0]]
    with pytest.raises(InvalidArgument, match="status"):
        await listed(statuses=[Status.STATUS_UNSPECIFIED])
    with pytest.raises(InvalidArgument, match="page_size"):
        await storage.tasks.ListTasks(task_store_pb2.ListTasksRequest(page_size=501))


async def test_a_page_of_large_tasks_ends_early_and_loses_none(storage: Any) -> None:
    agent_id = await storage.new_agent()
    large = '{"prompt":"' + "x" * (3 * 1024 * 1024) + '"}'
    ids = [await storage.new_task(agent_id=agent_id, input=large) for _ in range(5)]
    seen: list[str] = []
    request = task_store_pb2.ListTasksRequest(page_size=500, agent_id=agent_id)
    while True:
        page = await storage.tasks.ListTasks(request)
        assert 1 <= len(page.tasks) <= 3
        seen += [task.id for task in page.tasks]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == ids[::-1]


@pytest.mark.parametrize("token", ["rubbish", "AAAA", "a" * 22, "!!", "AAAAAAAAAAAAAAAAAAAAAA==", "é"])
async def test_a_garbled_token_names_the_cursor(storage: Any, token: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor") as caught:
        await storage.tasks.ListTasks(task_store_pb2.ListTasksRequest(page_size=4, page_token=token))
    assert caught.value.fields[0].field == "cursor"


async def retry(storage: Any, task_id: str, **fields: Any) -> Any:
    return (await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id, **fields))).task


async def failed_task(storage: Any, *, unfinished_call: bool = False) -> str:
    """A task that failed after a checkpoint and a tool call."""
    task_id = str(await storage.new_task())
    await storage.claim(task_id)
    await storage.sql("INSERT INTO checkpoints VALUES ($1, '', 'c', NULL, 1, 't', '', '{}')", task_id)
    await storage.sql("INSERT INTO checkpoint_writes VALUES ($1, '', 'c', 's', 0, '', 'x', 't', '')", task_id)
    await storage.sql("INSERT INTO tool_calls VALUES ($1, 'done', 1, 'clock', '{}', false, '1', now(), now())", task_id)
    if unfinished_call:
        await storage.sql("INSERT INTO tool_calls VALUES ($1, 'cut', 1, 'mailer', '{}', false, NULL)", task_id)
    await storage.tasks.FinishTask(
        finish(task_id, 1, Status.STATUS_FAILED, error_code="e", error_message="m", output=None)
    )
    return task_id


async def progress(storage: Any, task_id: str) -> dict[str, int]:
    tables = ("checkpoints", "checkpoint_writes", "tool_calls")
    return {t: len(await storage.sql(f"SELECT FROM {t} WHERE task_id = $1", task_id)) for t in tables}


async def test_a_failed_task_is_started_again_with_all_its_retries(storage: Any) -> None:
    await storage.empty_queue()
    task_id = await failed_task(storage)
    before = await progress(storage, task_id)
    assert before == {"checkpoints": 1, "checkpoint_writes": 1, "tool_calls": 1}
    task = await retry(storage, task_id)
    assert (task.status, task.retry_count, task.error_code) == (Status.STATUS_PENDING, 0, "e")
    assert not task.HasField("completed_at")
    assert await progress(storage, task_id) == before
    claim = await storage.claim_next()
    assert (claim.task.id, claim.task.attempt) == (task_id, 2)
    await storage.tasks.FinishTask(finish(task_id, 2))
    assert await progress(storage, task_id) == before


async def test_a_cancelled_task_is_started_again_and_can_be_cancelled_again(storage: Any) -> None:
    task_id = await storage.new_task()
    await cancel(storage, task_id)
    task = await retry(storage, task_id)
    assert (task.status, task.cancel_requested) == (Status.STATUS_PENDING, False)
    await storage.claim(task_id)
    assert (await cancel(storage, task_id)).cancel_requested


async def test_from_the_start_forgets_what_was_done(storage: Any) -> None:
    task_id = await failed_task(storage, unfinished_call=True)
    await retry(storage, task_id, from_start=True)
    assert set((await progress(storage, task_id)).values()) == {0}


async def test_a_tool_call_that_was_cut_off_is_asked_about(storage: Any) -> None:
    task_id = await failed_task(storage, unfinished_call=True)
    with pytest.raises(ToolCallUnfinished, match=r"mailer.*repeat_tool_calls"):
        await retry(storage, task_id)
    await retry(storage, task_id, repeat_tool_calls=True)
    (call,) = await storage.sql("SELECT call_id FROM tool_calls WHERE task_id = $1", task_id)
    assert call["call_id"] == "done"


async def test_what_has_not_failed_is_not_started_again(storage: Any) -> None:
    with pytest.raises(TaskNotFound):
        await retry(storage, new_id())
    task_id = await storage.new_task()
    for state in ("pending", "running", "completed"):
        with pytest.raises(TaskNotRetryable, match=state):
            await retry(storage, task_id)
        if state == "pending":
            await storage.claim(task_id)
        elif state == "running":
            await storage.tasks.FinishTask(finish(task_id, 1))
    agent_id = await storage.new_agent()
    orphan = await storage.new_task(agent_id=agent_id)
    await cancel(storage, orphan)
    await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
    with pytest.raises(AgentInactive):
        await retry(storage, orphan)


async def test_a_task_shows_its_attempts(storage: Any) -> None:
    task_id = await storage.new_task()
    for attempt, is_retry in ((1, True), (2, False), (3, True)):
        await storage.claim(task_id)
        if attempt > 1:
            await storage.tasks.RecordResume(
                task_store_pb2.RecordResumeRequest(id=task_id, attempt=attempt, step="generate")
            )
        await storage.tasks.ReleaseTask(release(task_id, attempt, is_retry=is_retry))
        await storage.sql("UPDATE tasks SET turn = 0, rung_at = now() WHERE id = $1", task_id)
    await storage.claim(task_id)
    with pytest.raises(AttemptOutdated):
        await storage.tasks.RecordResume(task_store_pb2.RecordResumeRequest(id=task_id, attempt=3, step="late"))

    page = task_store_pb2.ListAttemptsRequest(task_id=task_id, page_size=3)
    first = await storage.tasks.ListAttempts(page)
    page.page_token = first.next_page_token
    second = await storage.tasks.ListAttempts(page)
    attempts = [*first.attempts, *second.attempts]
    Outcome = task_pb2.Attempt  # noqa: N806 - the enum's values hang on the message
    assert [(a.attempt, a.outcome, a.resumed_from) for a in attempts] == [
        (1, Outcome.OUTCOME_RETRIED, ""),
        (2, Outcome.OUTCOME_HANDED_OVER, "generate"),
        (3, Outcome.OUTCOME_RETRIED, "generate"),
        (4, Outcome.OUTCOME_UNSPECIFIED, ""),
    ]
    assert not second.next_page_token
    assert not attempts[3].HasField("ended_at")
    with pytest.raises(TaskNotFound):
        await storage.tasks.ListAttempts(task_store_pb2.ListAttemptsRequest(task_id=new_id()))
    assert not (
        await storage.tasks.ListAttempts(task_store_pb2.ListAttemptsRequest(task_id=await storage.new_task()))
    ).attempts
