"""Which statements PostgreSQL plans once, and that a plan that is kept walks indexes though the tables were empty."""

from datetime import timedelta
from typing import Any

import orjson
from hearth_runtime.errors import Unavailable
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import TaskStatus, Turn
from storage_service.attempts import Attempts, Claim, Ended, Ending, Wanted
from storage_service.database import open_database

PREPARED = "SELECT name, statement, generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE $1"


def nodes(plan: dict[str, Any]) -> set[str]:
    """The kinds of all nodes of a plan."""
    return {plan["Node Type"]}.union(*(nodes(below) for below in plan.get("Plans", ())))


async def test_what_every_run_does_is_planned_once_and_along_indexes(storage: Any) -> None:
    one = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(one) as database:
        attempts = Attempts(database)
        for _ in range(3):
            task_id = await storage.new_task()
            claim = await attempts.claim(Wanted(worker_id="w", lease=timedelta(seconds=9), queue="runs"))
            assert claim.task.id == task_id
            assert await attempts.extend_lease(task_id, 1, timedelta(seconds=9)) is False
        (kept,) = await database.fetch(PREPARED, "/* claim_task */%", keep_plan=True)
        assert (kept["generic_plans"], kept["custom_plans"]) == (3, 0)
        (kept,) = await database.fetch(PREPARED, "/* extend_lease */%", keep_plan=True)
        explained = f"EXPLAIN (FORMAT json) EXECUTE {kept['name']} ('{new_id()}', 1, '1 s')"
        (row,) = await database.fetch(explained, keep_plan=True)
        (plan,) = orjson.loads(row["QUERY PLAN"])
        assert nodes(plan["Plan"]) == {"ModifyTable", "Index Scan"}


def indexes(plan: dict[str, Any]) -> set[str]:
    """The indexes that a plan goes along."""
    found = {plan["Index Name"]} if "Index Name" in plan else set()
    return found.union(*(indexes(below) for below in plan.get("Plans", ())))


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
        (kept,) = await database.fetch(PREPARED, "/* finish_task */%", keep_plan=True)
        nulls = ", ".join(["NULL"] * 9)
        explained = (
            f"EXPLAIN (FORMAT json) EXECUTE {kept['name']}"
            f" ('w', '1 s', 'runs', '{new_id()}', 1, 'completed', {nulls}, true)"
        )
        (row,) = await database.fetch(explained, keep_plan=True)
        (plan,) = orjson.loads(row["QUERY PLAN"])
        assert "tasks_turn" in indexes(plan["Plan"])
        assert not nodes(plan["Plan"]) & {"Seq Scan", "Sort"}


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
