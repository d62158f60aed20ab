"""What is kept of how tasks were run, over gRPC and on real PostgreSQL."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hearth.agent.v1 import agent_pb2, task_pb2
from hearth.storage.v1 import (
    agent_store_pb2,
    checkpoint_store_pb2,
    checkpoint_store_pb2_grpc,
    history_store_pb2,
    history_store_pb2_grpc,
    task_store_pb2,
)
from hearth_runtime.errors import CheckpointNotFound, HistoryExpired, TaskNotFound, TaskNotReplayable
from hearth_runtime.identifiers import new_id
from system.waiting import eventually

Status = task_pb2.Task


def histories(storage: Any) -> Any:
    return history_store_pb2_grpc.HistoryStoreServiceStub(storage.channel)


async def put_checkpoint(storage: Any, task_id: str, checkpoint_id: str, *, source: str = "loop") -> None:
    stub = checkpoint_store_pb2_grpc.CheckpointStoreServiceStub(storage.channel)
    checkpoint = checkpoint_store_pb2.Checkpoint(
        task_id=task_id,
        id=checkpoint_id,
        checkpoint=checkpoint_store_pb2.TypedBytes(type="msgpack", data=checkpoint_id.encode()),
        metadata=f'{{"source":"{source}","step":{checkpoint_id[0]}}}',
    )
    await stub.PutCheckpoints(
        checkpoint_store_pb2.PutCheckpointsRequest(task_id=task_id, attempt=1, checkpoints=[checkpoint])
    )


async def call_tool(storage: Any, task_id: str, call_id: str, *, tool_name: str = "mailer") -> None:
    stub = checkpoint_store_pb2_grpc.CheckpointStoreServiceStub(storage.channel)
    await stub.BeginToolCall(
        checkpoint_store_pb2.BeginToolCallRequest(
            task_id=task_id, attempt=1, call_id=call_id, tool_name=tool_name, arguments='{"n": 1}'
        )
    )
    await stub.FinishToolCall(
        checkpoint_store_pb2.FinishToolCallRequest(task_id=task_id, attempt=1, call_id=call_id, result="2")
    )


async def ran(storage: Any, status: "task_pb2.Task.Status.ValueType" = Status.STATUS_COMPLETED, **fields: Any) -> str:
    """A task that ended after three checkpoints, with a call between each two and one that is open."""
    task_id = str(await storage.new_task(**fields))
    await storage.claim(task_id)
    await put_checkpoint(storage, task_id, "0", source="input")
    await call_tool(storage, task_id, "first")
    await call_tool(storage, task_id, ":note:tools", tool_name=":note")
    await put_checkpoint(storage, task_id, "1")
    await call_tool(storage, task_id, "second")
    await put_checkpoint(storage, task_id, "2")
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=task_id, attempt=1, status=status, output='{"text":"done"}')
    )
    return task_id


def fork_request(task_id: str, **fields: Any) -> history_store_pb2.ForkTaskRequest:
    return history_store_pb2.ForkTaskRequest(
        **{"id": new_id(), "task_id": task_id, "request_hash": "f", "answers": "{}", **fields}
    )


async def checkpoints(storage: Any, task_id: str) -> list[tuple[str, int, bytes]]:
    request = history_store_pb2.ListSavedCheckpointsRequest(task_id=task_id, page_size=1)
    found = []
    while True:
        answer = await histories(storage).ListSavedCheckpoints(request)
        found += [(c.checkpoint.id, c.attempt, c.checkpoint.checkpoint.data) for c in answer.checkpoints]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            return found


async def calls(storage: Any, task_id: str) -> dict[str, str]:
    request = history_store_pb2.ListRecordedCallsRequest(task_id=task_id, page_size=2)
    found: dict[str, str] = {}
    while True:
        answer = await histories(storage).ListRecordedCalls(request)
        found |= {call.call_id: call.result for call in answer.calls}
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            return found


async def test_what_a_completed_task_left_behind_is_kept(storage: Any) -> None:
    task_id = await ran(storage)
    assert await checkpoints(storage, task_id) == [("1", 1, b"1"), ("2", 1, b"2")]
    assert await calls(storage, task_id) == {":note:tools": "2", "first": "2", "second": "2"}


async def test_a_fork_has_what_there_was_before_its_checkpoint(storage: Any) -> None:
    task_id = await ran(storage)
    edited = checkpoint_store_pb2.TypedBytes(type="msgpack", data=b"edited")
    request = fork_request(task_id, checkpoint_id="1", checkpoint=edited, input='{"prompt":"new"}', answers='{"a":{}}')
    fork = (await histories(storage).ForkTask(request)).task
    assert (fork.forked_from_task_id, fork.input, fork.status) == (task_id, '{"prompt":"new"}', Status.STATUS_PENDING)
    # The same call again, whose answer was missed, finds it.
    again = await histories(storage).ForkTask(request)
    assert (again.task.id, again.created) == (fork.id, True)
    claim = await storage.claim(fork.id)
    assert claim.answers == '{"a":{}}'
    assert await checkpoints(storage, fork.id) == [("1", 0, b"edited")]
    assert await calls(storage, fork.id) == {"first": "2"}
    assert await checkpoints(storage, task_id) == [("1", 1, b"1"), ("2", 1, b"2")]
    with pytest.raises(CheckpointNotFound, match="no checkpoint 9"):
        await histories(storage).ForkTask(fork_request(task_id, checkpoint_id="9"))


async def test_a_fork_before_the_first_step_has_none_of_its_calls(storage: Any) -> None:
    task_id = await storage.new_task()
    await storage.claim(task_id)
    await call_tool(storage, task_id, "first")
    # A new task's first checkpoint is held back until there is more to keep.
    await put_checkpoint(storage, task_id, "0")
    await put_checkpoint(storage, task_id, "1")
    before, after = [
        (await histories(storage).ForkTask(fork_request(task_id, checkpoint_id=checkpoint_id))).task.id
        for checkpoint_id in ("0", "1")
    ]
    for fork_id in (before, after):
        await storage.claim(fork_id)
    assert (await calls(storage, before), await calls(storage, after)) == ({}, {"first": "2"})


async def test_a_fork_that_is_started_again_from_the_start_begins_as_it_did(storage: Any) -> None:
    task_id = await ran(storage)
    fork = (await histories(storage).ForkTask(fork_request(task_id, checkpoint_id="1"))).task
    await storage.claim(fork.id)
    await put_checkpoint(storage, fork.id, "1a")
    await call_tool(storage, fork.id, "own")
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=fork.id, attempt=1, status=Status.STATUS_FAILED, error_code="e")
    )
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=fork.id, from_start=True))
    assert [place for place, _, _ in await checkpoints(storage, fork.id)] == ["1"]
    assert await calls(storage, fork.id) == {"first": "2"}


async def test_a_replay_is_given_the_agent_and_the_session_as_they_were(storage: Any) -> None:
    agent_id = await storage.new_agent(name="before")
    session_id = new_id()
    first = await storage.new_task(agent_id=agent_id, session_id=session_id)
    await storage.claim(first)
    turns = [task_store_pb2.Turn(role="user", content="hi"), task_store_pb2.Turn(role="assistant", content="ho")]
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(
            id=first, attempt=1, status=Status.STATUS_COMPLETED, output="{}", new_turns=turns
        )
    )
    second = await ran(storage, agent_id=agent_id, session_id=session_id)
    changed = agent_pb2.Agent(id=agent_id, name="after", model_name="m", is_active=False)
    await storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=changed))
    await storage.sql("UPDATE sessions SET session_data = $2 WHERE id = $1", session_id, '{"turns": []}')
    request = history_store_pb2.ReplayTaskRequest(id=new_id(), task_id=second, request_hash="r")
    replay = (await histories(storage).ReplayTask(request)).task
    assert (replay.replay_of_task_id, replay.HasField("session_id")) == (second, False)
    claim = await storage.claim(replay.id)
    assert claim.agent.name == "before"
    assert [turn.content for turn in claim.session_turns] == ["hi", "ho"]
    assert await checkpoints(storage, replay.id) == []


async def test_a_task_keeps_its_agent_and_its_session_until_it_is_started_again(storage: Any) -> None:
    agent_id = await storage.new_agent(name="before")
    session_id = new_id()
    task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
    await storage.claim(task_id)
    await storage.tasks.ReleaseTask(task_store_pb2.ReleaseTaskRequest(id=task_id, attempt=1))
    changed = agent_pb2.Agent(id=agent_id, name="after", model_name="m", is_active=True)
    await storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=changed))
    turn = '{"turns": [{"role": "user", "content": "meanwhile"}]}'
    await storage.sql("UPDATE sessions SET session_data = $2 WHERE id = $1", session_id, turn)

    again = await storage.claim(task_id)
    assert (again.agent.name, list(again.session_turns)) == ("before", [])
    fork = (await histories(storage).ForkTask(fork_request(task_id))).task
    forked = await storage.claim(fork.id)
    assert (forked.agent.name, list(forked.session_turns)) == ("after", [])
    await storage.tasks.FinishTask(task_store_pb2.FinishTaskRequest(id=task_id, attempt=2, status=Status.STATUS_FAILED))
    await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=task_id))
    by_hand = await storage.claim(task_id)
    assert (by_hand.agent.name, [turn.content for turn in by_hand.session_turns]) == ("after", ["meanwhile"])


async def test_only_what_completed_or_failed_is_replayed(storage: Any) -> None:
    task_id = await ran(storage, Status.STATUS_CANCELLED)
    request = history_store_pb2.ReplayTaskRequest(id=new_id(), task_id=task_id, request_hash="r")
    with pytest.raises(TaskNotReplayable, match="is cancelled"):
        await histories(storage).ReplayTask(request)
    with pytest.raises(TaskNotFound):
        await histories(storage).ReplayTask(
            history_store_pb2.ReplayTaskRequest(id=new_id(), task_id=new_id(), request_hash="r")
        )


async def test_what_is_old_is_deleted_and_nothing_else(
    storage: Any, open_storage: Callable[..., AbstractAsyncContextManager[Any]]
) -> None:
    kept = [await ran(storage), await storage.new_task()]
    waiting = await storage.new_task()
    await storage.claim(waiting)
    old = [await ran(storage), await ran(storage, Status.STATUS_FAILED)]
    aged = [*old, waiting]
    await storage.sql("UPDATE task_histories SET created_at = now() - interval '8 days' WHERE task_id = ANY($1)", aged)
    await storage.sql("UPDATE tasks SET completed_at = now() - interval '8 days' WHERE id = ANY($1)", old)

    async def gone() -> bool:
        rows = await storage.sql("SELECT FROM task_histories WHERE task_id = ANY($1)", old)
        return not rows

    async with open_storage(storage.settings.database_url, checkpoint_retention_sweep_seconds=0.05):
        await eventually(gone, what="the old histories are deleted")
    for table in ("checkpoints", "checkpoint_writes", "tool_calls"):
        assert await storage.sql(f"SELECT FROM {table} WHERE task_id = ANY($1)", old) == []
    assert len(await checkpoints(storage, kept[0])) == 2
    assert len(await storage.sql("SELECT FROM task_histories WHERE task_id = $1", waiting)) == 1
    for task_id in old:
        with pytest.raises(HistoryExpired):
            await checkpoints(storage, task_id)
        with pytest.raises(HistoryExpired):
            await histories(storage).ForkTask(fork_request(task_id))
    with pytest.raises(HistoryExpired, match='"from": "start"'):
        await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=old[1]))
    task = (await storage.tasks.RetryTask(task_store_pb2.RetryTaskRequest(id=old[1], from_start=True))).task
    assert task.status == Status.STATUS_PENDING
