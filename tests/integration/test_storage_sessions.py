"""Sessions over gRPC and on real PostgreSQL: what runs append, summaries, forks, and deleting."""

import asyncio
from typing import Any

import pytest
from hearth.agent.v1 import task_pb2
from hearth.storage.v1 import session_store_pb2 as pb
from hearth.storage.v1 import task_store_pb2
from hearth_runtime.errors import InvalidArgument, SessionInUse, SessionNotFound
from hearth_runtime.identifiers import new_id
from storage_service.sessions import TURNS_LIMIT

COMPLETED = task_pb2.Task.STATUS_COMPLETED


async def say(storage: Any, session_id: str, *contents: str, agent_id: str) -> str:
    """A run that appends these turns, and its id."""
    task_id = str(await storage.new_task(agent_id=agent_id, session_id=session_id))
    claim = await storage.claim(task_id)
    await finish(storage, task_id, claim.task.attempt, *contents)
    return task_id


async def finish(storage: Any, task_id: str, attempt: int, *contents: str) -> None:
    turns = [task_store_pb2.Turn(role="user", content=content) for content in contents]
    await storage.tasks.FinishTask(
        task_store_pb2.FinishTaskRequest(id=task_id, attempt=attempt, status=COMPLETED, output="{}", new_turns=turns)
    )


async def begun(storage: Any, *contents: str) -> tuple[str, str]:
    """A new session of these turns: the agent's id and its own."""
    agent_id, session_id = await storage.new_agent(), new_id()
    await say(storage, session_id, *contents, agent_id=agent_id)
    return agent_id, session_id


async def get(storage: Any, session_id: str) -> Any:
    return (await storage.sessions.GetSession(pb.GetSessionRequest(id=session_id))).session


async def turns(storage: Any, session_id: str, **fields: Any) -> list[tuple[int, str]]:
    answer = await storage.sessions.ListSessionTurns(pb.ListSessionTurnsRequest(id=session_id, **fields))
    return [(turn.number, turn.content) for turn in answer.turns]


async def given(storage: Any, agent_id: str, session_id: str) -> tuple[str | None, list[str]]:
    """What the session's next run is given: summary and turns."""
    task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
    claim = await storage.claim(task_id)
    await finish(storage, task_id, claim.task.attempt)
    summary = claim.session_summary if claim.HasField("session_summary") else None
    return summary, [turn.content for turn in claim.session_turns]


async def test_a_session_tells_of_itself_and_of_each_turn_which_run_it_came_with(storage: Any) -> None:
    agent_id, session_id = await begun(storage, "a", "b")
    second = await say(storage, session_id, "c", agent_id=agent_id)
    session = await get(storage, session_id)
    assert (session.agent_id, session.turn_count, session.first_turn, session.summarized_turns) == (agent_id, 3, 1, 0)
    assert not session.HasField("title")
    assert not session.HasField("summary")
    answer = await storage.sessions.ListSessionTurns(pb.ListSessionTurnsRequest(id=session_id, after_turn=2))
    (turn,) = answer.turns
    assert (turn.number, turn.role, turn.content, turn.task_id) == (3, "user", "c", second)
    assert turn.created_at.seconds > 0


async def test_turns_come_in_pages(storage: Any) -> None:
    _, session_id = await begun(storage, *"abcde")
    first = await storage.sessions.ListSessionTurns(pb.ListSessionTurnsRequest(id=session_id, page_size=2))
    assert [t.content for t in first.turns] == ["a", "b"]
    rest = await turns(storage, session_id, page_size=3, page_token=first.next_page_token)
    assert rest == [(3, "c"), (4, "d"), (5, "e")]
    assert await turns(storage, session_id, after_turn=5) == []


async def test_runs_that_end_at_once_append_each_its_own_turns_together(storage: Any) -> None:
    agent_id, session_id = await storage.new_agent(), new_id()
    claims = []
    for _ in range(8):
        task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
        claims.append((await storage.claim(task_id)).task)
    await asyncio.gather(*(finish(storage, t.id, t.attempt, f"{t.id} asks", f"{t.id} is told") for t in claims))
    found = [content for _, content in await turns(storage, session_id)]
    assert len(found) == 16
    assert [number for number, _ in await turns(storage, session_id)] == list(range(1, 17))
    for asked, told in zip(found[::2], found[1::2], strict=True):
        assert asked.split()[0] == told.split()[0]


async def test_the_oldest_turns_go_and_the_numbers_stay(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *(str(n) for n in range(1, TURNS_LIMIT + 1)))
    await say(storage, session_id, "one more", "and one", agent_id=agent_id)
    session = await get(storage, session_id)
    assert (session.turn_count, session.first_turn) == (TURNS_LIMIT + 2, 3)
    assert (await turns(storage, session_id, page_size=1)) == [(3, "3")]
    assert (await turns(storage, session_id, after_turn=TURNS_LIMIT)) == [(1001, "one more"), (1002, "and one")]


async def summarize(storage: Any, session_id: str, summary: str, *, since: int, until: int) -> bool:
    answer = await storage.sessions.SaveSummary(
        pb.SaveSummaryRequest(id=session_id, summary=summary, from_turns=since, summarized_turns=until)
    )
    return bool(answer.is_saved)


async def test_a_summary_stands_for_the_turns_that_it_covers_and_they_stay(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *"abcd")
    assert await given(storage, agent_id, session_id) == (None, ["a", "b", "c", "d"])
    assert await summarize(storage, session_id, "a to c", since=0, until=3)
    assert await given(storage, agent_id, session_id) == ("a to c", ["d"])
    assert [content for _, content in await turns(storage, session_id)] == list("abcd")
    assert await summarize(storage, session_id, "all", since=3, until=4)
    assert await given(storage, agent_id, session_id) == ("all", [])


async def test_an_outdated_summary_changes_nothing(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *"abcd")
    assert await summarize(storage, session_id, "a to c", since=0, until=3)
    assert not await summarize(storage, session_id, "made of an older state", since=0, until=2)
    assert not await summarize(storage, session_id, "of turns that are not there", since=3, until=5)
    assert await given(storage, agent_id, session_id) == ("a to c", ["d"])


async def test_a_summary_loses_no_turn_that_came_while_it_was_made(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *"abcd")
    await say(storage, session_id, "e", agent_id=agent_id)
    assert await summarize(storage, session_id, "a to c", since=0, until=3)
    assert await given(storage, agent_id, session_id) == ("a to c", ["d", "e"])


async def test_a_summary_of_turns_that_were_dropped_since_leaves_all_others(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *(str(n) for n in range(1, TURNS_LIMIT + 1)))
    assert await summarize(storage, session_id, "the first four", since=0, until=4)
    await say(storage, session_id, *(f"later {n}" for n in range(10)), agent_id=agent_id)
    summary, rest = await given(storage, agent_id, session_id)
    assert (summary, rest[0], len(rest)) == ("the first four", "11", TURNS_LIMIT)


async def test_a_fork_goes_its_own_way(storage: Any) -> None:
    agent_id, session_id = await begun(storage, *"abcd")
    await summarize(storage, session_id, "a and b", since=0, until=2)
    title = pb.RenameSessionRequest(id=session_id, title="Letters")
    assert (await storage.sessions.RenameSession(title)).session.title == "Letters"

    async def fork(**fields: Any) -> Any:
        request = pb.ForkSessionRequest(**{"id": new_id(), "source_id": session_id, **fields})
        return (await storage.sessions.ForkSession(request)).session

    whole, early = await fork(), await fork(until_turn=1, title="Early letters")
    assert (whole.title, whole.forked_from, whole.summary, whole.turn_count) == ("Letters", session_id, "a and b", 4)
    assert (early.title, early.HasField("summary"), early.turn_count) == ("Early letters", False, 1)
    await say(storage, early.id, "z", agent_id=agent_id)
    assert await turns(storage, early.id) == [(1, "a"), (2, "z")]
    assert (await get(storage, session_id)).turn_count == 4
    assert await fork(id=early.id) == await get(storage, early.id), "the same again is harmless"
    for until_turn in (0, 5):
        with pytest.raises(InvalidArgument, match="it has turns 1 to 4"):
            await fork(until_turn=until_turn)


async def test_sessions_are_listed_the_newest_first_whatever_their_ids(storage: Any) -> None:
    agent_id = await storage.new_agent()
    ids = [f"{n}0000000-0000-4000-8000-{new_id()[-12:]}" for n in (7, 1, 4)]
    for session_id in ids:
        await say(storage, session_id, "hi", agent_id=agent_id)
    found, token = [], ""
    while True:
        page = await storage.sessions.ListSessions(
            pb.ListSessionsRequest(page_size=2, page_token=token, agent_id=agent_id)
        )
        found += [session.id for session in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert found == ids[::-1]
    with pytest.raises(InvalidArgument):
        await storage.sessions.ListSessions(pb.ListSessionsRequest(page_token="x"))


async def test_a_deleted_session_is_gone_and_its_runs_stay(storage: Any) -> None:
    agent_id, session_id = await begun(storage, "a")
    (run,) = await storage.sql("SELECT id FROM tasks WHERE session_id = $1", session_id)
    fork = pb.ForkSessionRequest(id=new_id(), source_id=session_id)
    await storage.sessions.ForkSession(fork)
    await storage.sessions.DeleteSession(pb.DeleteSessionRequest(id=session_id))
    for call in (
        storage.sessions.GetSession(pb.GetSessionRequest(id=session_id)),
        storage.sessions.ListSessionTurns(pb.ListSessionTurnsRequest(id=session_id)),
        storage.sessions.DeleteSession(pb.DeleteSessionRequest(id=session_id)),
        storage.sessions.GetSession(pb.GetSessionRequest(id="no-uuid")),
        storage.sessions.RenameSession(pb.RenameSessionRequest(id=session_id)),
        storage.sessions.ForkSession(pb.ForkSessionRequest(id=new_id(), source_id=session_id)),
        summarize(storage, session_id, "x", since=0, until=1),
    ):
        with pytest.raises(SessionNotFound):
            await call
    task = (await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=str(run["id"])))).task
    assert not task.HasField("session_id")
    assert not (await get(storage, fork.id)).HasField("forked_from")
    assert await given(storage, agent_id, session_id) == (None, []), "its id begins a new one"


async def test_a_session_whose_runs_have_not_ended_is_not_deleted(storage: Any) -> None:
    agent_id, session_id = await begun(storage, "a")
    task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
    with pytest.raises(SessionInUse, match="1 runs"):
        await storage.sessions.DeleteSession(pb.DeleteSessionRequest(id=session_id))
    await storage.tasks.CancelTask(task_store_pb2.CancelTaskRequest(id=task_id))
    await storage.sessions.DeleteSession(pb.DeleteSessionRequest(id=session_id))


async def test_deleting_and_accepting_at_once_leave_no_run_without_its_session(storage: Any) -> None:
    for _ in range(10):
        agent_id, session_id = await begun(storage, "a")
        accepting = storage.new_task(agent_id=agent_id, session_id=session_id)
        deleting = storage.sessions.DeleteSession(pb.DeleteSessionRequest(id=session_id))
        outcomes: Any = await asyncio.gather(accepting, deleting, return_exceptions=True)
        task_id, deleted = outcomes
        assert isinstance(deleted, SessionInUse) or not isinstance(deleted, Exception)
        task = (await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))).task
        assert task.session_id == session_id
        kept = await turns(storage, session_id)
        assert kept == ([(1, "a")] if isinstance(deleted, SessionInUse) else [])
        await storage.empty_queue()
