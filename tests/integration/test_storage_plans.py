"""Which statements PostgreSQL plans once, and that a plan that is kept walks indexes though the tables were empty."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hearth_runtime.checkpoints import Checkpoint, TypedBytes
from hearth_runtime.errors import Unavailable
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import TaskStatus, Turn
from storage_service.attempts import Attempts, Claim, Ended, Ending, Wanted
from storage_service.checkpoints import Checkpoints
from storage_service.database import Database, open_database
from storage_service.queue_bounds import QueueBounds
from storage_service.tasks import NewTask, Tasks

PREPARED = """
SELECT name, generic_plans, custom_plans, array_length(parameter_types, 1) AS parameters
FROM pg_prepared_statements
WHERE statement LIKE $1
"""


def nodes(plan: dict[str, Any]) -> set[str]:
    """The kinds of all nodes of a plan."""
    return {plan["Node Type"]}.union(*(nodes(below) for below in plan.get("Plans", ())))


def indexes(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan goes along."""
    found = {plan["Index Name"]} if "Index Name" in plan else set()
    return found.union(*(indexes(below) for below in plan.get("Plans", ())))


def walked_whole(plan: dict[str, Any]) -> set[str]:
    """What a plan looks through from one end to the other: tables, and indexes without a condition."""
    here = (
        {plan.get("Index Name", plan["Relation Name"])}
        if "Relation Name" in plan and "Scan" in plan["Node Type"]
        else set()
    )
    if "Index Cond" in plan:
        here = set()
    return here.union(*(walked_whole(below) for below in plan.get("Plans", ())))


async def kept_plan(database: Database, statement: str, *, values: str = "") -> dict[str, Any]:
    """The plan that the only connection of `database` keeps for the statement; NULL for each parameter, or `values`."""
    (kept,) = await database.fetch(PREPARED, f"/* {statement} */%", keep_plan=True)
    values = values or ", ".join(["NULL"] * kept["parameters"])
    (row,) = await database.fetch(f"EXPLAIN (FORMAT json) EXECUTE {kept['name']} ({values})", keep_plan=True)
    (plan,) = orjson.loads(row["QUERY PLAN"])
    return dict(plan["Plan"])


def checkpoint(task_id: str) -> Checkpoint:
    """One of a task's."""
    data = TypedBytes(type="msgpack", data=b"\x80")
    return Checkpoint(task_id=task_id, namespace="", id=new_id(), parent_id=None, checkpoint=data, metadata={})


async def test_what_every_run_does_is_planned_once_and_along_indexes(storage: Any) -> None:
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        attempts = Attempts(database)
        for _ in range(3):
            task_id = await storage.new_task()
            claim = await attempts.claim(Wanted(worker_id="w", lease=timedelta(seconds=9), queue="runs"))
            assert claim.task.id == task_id
            assert await attempts.extend_leases([(task_id, 2)], timedelta(seconds=9)) == []
            await Checkpoints(database, attempts).put(task_id, 1, [checkpoint(task_id)], [])
        (kept,) = await database.fetch(PREPARED, "/* claim_task */%", keep_plan=True)
        assert (kept["generic_plans"], kept["custom_plans"]) == (3, 0)
        extending = await kept_plan(database, "extend_lease")
        assert nodes(extending) == {"ModifyTable", "Index Scan"}
        # Not `tasks_lease`, which has all tasks that run.
        assert indexes(extending) == {"tasks_pkey"}
        assert "tasks_pkey" in indexes(await kept_plan(database, "put_checkpoints"))


async def accept(storage: Any, database: Database, *, count: int) -> None:
    """So many tasks of an agent, which then wait."""
    agent_id = await storage.new_agent()
    tasks = Tasks(database, QueueBounds(database, in_all=9999, per_agent=9999))

    async def one() -> None:
        new = NewTask(
            id=new_id(),
            agent_id=agent_id,
            input={"prompt": "hi"},
            session_id=None,
            idempotency_key=new_id(),
            request_hash="h",
            traceparent="",
            user=None,
            tools=(),
        )
        await tasks.create(new)

    await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("waiting", [0, 300])
async def test_a_task_is_accepted_without_a_look_at_others(storage: Any, waiting: int) -> None:
    async with open_database(storage.settings) as database:
        await accept(storage, database, count=waiting)
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        await accept(storage, database, count=1)
        plan = await kept_plan(database, "create_tasks")
        # The key's index and that of an agent's turns, and none that has all tasks of an owner, or all that wait.
        assert {index for index in indexes(plan) if index.startswith("tasks")} == {
            "tasks_pkey",
            "tasks_idempotency_key",
            "tasks_agent_turn",
        }
        assert not walked_whole(plan)


async def test_a_task_is_claimed_without_a_look_at_all_that_wait(storage: Any) -> None:
    async with open_database(storage.settings) as database:
        await accept(storage, database, count=300)
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        await Attempts(database).claim(Wanted(worker_id="w", lease=timedelta(seconds=9), queue="runs"))
        plan = await kept_plan(database, "claim_task")
        assert {index for index in indexes(plan) if index.startswith("tasks")} == {"tasks_pkey", "tasks_turn"}
        assert not walked_whole(plan)
        assert "Sort" not in nodes(plan)


async def test_the_first_turn_is_found_without_a_look_at_all_that_wait(storage: Any) -> None:
    agent_id = await storage.new_agent()
    await storage.sql(
        "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at,"
        " rung_at, turn)"
        " SELECT gen_random_uuid(), $1, 'pending', '{}', 3, '', '', now(), now(), number"
        " FROM generate_series(1, 5000) AS number",
        agent_id,
    )
    looked_at = (
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows"
        " FROM pg_stat_xact_user_tables WHERE relname = 'tasks'"
    )
    async with open_database(storage.settings) as database, database.transaction() as transaction:
        (before,) = await transaction.fetch(looked_at)
        (found,) = await transaction.fetch("SELECT first_turn('runs') AS turn")
        (after,) = await transaction.fetch(looked_at)
    assert found["turn"] is not None
    assert after["rows"] - before["rows"] < 10


async def ended(attempts: Attempts, storage: Any, **fields: Any) -> Ended:
    """What is told of the end of a task that ran, where another one waits."""
    await storage.empty_queue()
    first, _ = [await storage.new_task(**fields) for _ in range(2)]
    await storage.claim(first)
    return await attempts.finish(
        Ending(
            id=first,
            attempt=1,
            status=TaskStatus.COMPLETED,
            output={"text": "done"},
            error_code=None,
            error_message=None,
            new_turns=(Turn(role="user", content="hi"),) if "session_id" in fields else (),
            checkpoints=(),
            next=Wanted(worker_id="w", lease=timedelta(seconds=9), queue="runs"),
        )
    )


async def test_an_end_claims_along_the_index_of_turns(storage: Any) -> None:
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        assert (await ended(Attempts(database), storage)).next is not None
        nulls = ", ".join(["NULL"] * 9)
        plan = await kept_plan(
            database, "finish_task", values=f"'w', '1 s', 'runs', '{new_id()}', 1, 'completed', {nulls}, true"
        )
        assert {i for i in indexes(plan) if i.startswith("tasks")} == {"tasks_pkey", "tasks_turn"}
        assert not walked_whole(plan)
        assert "Sort" not in nodes(plan)


class NoClaims(Attempts):
    """Everybody is claiming."""

    async def claim(self, wanted: Wanted) -> Claim:
        raise Unavailable("No connection to the database is free.")


async def test_an_end_that_is_kept_is_told_though_nothing_can_be_claimed(storage: Any) -> None:
    async with open_database(storage.settings) as database:
        session = {"session_id": new_id(), "agent_id": await storage.new_agent()}
        told = await ended(NoClaims(database), storage, **session)
        assert (told.task.status, told.next) == (TaskStatus.COMPLETED, None)


async def test_what_is_listed_is_planned_for_its_values(storage: Any) -> None:
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        attempts, task_id = Attempts(database), await storage.new_task()
        for _ in range(7):
            await attempts.list(task_id, page_size=1, token="")
        (listed,) = await database.fetch(PREPARED, "/* list_attempts */%")
        assert (listed["generic_plans"], listed["custom_plans"]) == (0, 7)
