"""One owner's data is another's nothing: over gRPC, on real PostgreSQL, by the policies of its tables."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from hearth.agent.v1 import agent_pb2, document_pb2
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth.storage.v1 import (
    agent_store_pb2,
    document_store_pb2,
    document_store_pb2_grpc,
    event_store_pb2,
    history_store_pb2,
    history_store_pb2_grpc,
    session_store_pb2,
    task_store_pb2,
)
from hearth_runtime.agents import DOCUMENTS_AGENT_ID
from hearth_runtime.errors import (
    AgentNotFound,
    CollectionNotFound,
    IdempotencyConflict,
    NotFound,
    QuotaExceeded,
    SessionNotFound,
    SubscriptionNotFound,
    TaskNotFound,
    Unavailable,
)
from hearth_runtime.identifiers import new_id
from hearth_runtime.principals import Principal, acting_for
from storage_service.agents import AgentDraft, Agents
from storage_service.database import open_database
from storage_service.migrate import migrate
from storage_service.settings import StorageSettings

ANN, BOB = Principal(owner="ann"), Principal(owner="bob")
ADMIN = Principal(owner="root", sees_all=True)
# Tables that are nobody's business but Hearth's own, and those that are reached through documents alone.
HEARTHS_OWN = {"alembic_version", "api_keys", "tickets", "actions"}
THROUGH_DOCUMENTS = {"chunks", "chunk_vectors"}


async def agents_of(storage: Any, principal: Principal | None) -> set[str]:
    with acting_for(principal):
        answer = await storage.agents.ListAgents(agent_store_pb2.ListAgentsRequest(page_size=500))
    return {agent.id for agent in answer.agents}


async def owners(storage: Any, table: str, row_id: str) -> str:
    (row,) = await storage.sql(f"SELECT owner FROM {table} WHERE id = $1", row_id)
    return str(row["owner"])


def collection(name: str) -> document_pb2.Collection:
    return document_pb2.Collection(id=new_id(), name=name, embedding_model="m", chunk_tokens=100)


async def test_who_makes_an_agent_owns_it_and_what_comes_of_it(storage: Any) -> None:
    with acting_for(ANN):
        agent_id, session_id = await storage.new_agent(), new_id()
        task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
    for table, row_id in (("agents", agent_id), ("tasks", task_id), ("sessions", session_id)):
        assert await owners(storage, table, row_id) == "ann"
    # Whoever starts it: what the run needs is its agent's owner's.
    with acting_for(ADMIN):
        by_admin = await storage.new_task(agent_id=agent_id, session_id=new_id())
    assert await owners(storage, "tasks", by_admin) == "ann"
    assert await owners(storage, "agents", await storage.new_agent()) == ""


async def test_nobody_else_sees_changes_or_runs_it(storage: Any) -> None:
    with acting_for(ANN):
        agent_id, session_id = await storage.new_agent(), new_id()
        task_id = await storage.new_task(agent_id=agent_id, session_id=session_id)
    with acting_for(BOB):
        with pytest.raises(AgentNotFound):
            await storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id))
        with pytest.raises(AgentNotFound):
            await storage.agents.UpdateAgent(
                agent_store_pb2.UpdateAgentRequest(agent=agent_pb2.Agent(id=agent_id, name="mine", model_name="m"))
            )
        with pytest.raises(AgentNotFound):
            await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
        with pytest.raises(AgentNotFound):
            await storage.new_task(agent_id=agent_id)
        for call, request in (
            (storage.tasks.GetTask, task_store_pb2.GetTaskRequest(id=task_id)),
            (storage.tasks.CancelTask, task_store_pb2.CancelTaskRequest(id=task_id)),
            (storage.tasks.RetryTask, task_store_pb2.RetryTaskRequest(id=task_id)),
        ):
            with pytest.raises(TaskNotFound):
                await call(request)
        states = await storage.tasks.GetTaskStates(task_store_pb2.GetTaskStatesRequest(ids=[task_id]))
        assert not states.states
        with pytest.raises(SessionNotFound):
            await storage.sessions.GetSession(session_store_pb2.GetSessionRequest(id=session_id))
        listed = await storage.tasks.ListTasks(task_store_pb2.ListTasksRequest(page_size=500))
        assert task_id not in {task.id for task in listed.tasks}
    assert agent_id not in await agents_of(storage, BOB)
    for principal in (ANN, ADMIN, None):
        assert agent_id in await agents_of(storage, principal)
    (row,) = await storage.sql("SELECT name, is_active FROM agents WHERE id = $1", agent_id)
    assert (row["name"], row["is_active"]) == ("helper", True)


async def test_another_owners_session_is_no_place_for_a_run(storage: Any) -> None:
    with acting_for(ANN):
        session_id = new_id()
        await storage.new_task(session_id=session_id)
    with acting_for(BOB):
        agent_id = await storage.new_agent()
        with pytest.raises(NotFound):
            await storage.new_task(agent_id=agent_id, session_id=session_id)
    assert await owners(storage, "sessions", session_id) == "ann"


async def test_names_and_keys_are_each_owners_own(storage: Any) -> None:
    documents: Any = document_store_pb2_grpc.DocumentStoreServiceStub(storage.channel)
    made = {}
    for principal in (ANN, BOB):
        with acting_for(principal):
            made[principal.owner] = await storage.new_task(idempotency_key="again", request_hash=principal.owner)
            await documents.InsertCollection(
                document_store_pb2.InsertCollectionRequest(collection=collection("shared-name"))
            )
            await storage.events.SaveSubscription(
                event_store_pb2.SaveSubscriptionRequest(name="desk", last_seen_stream_id=f"{len(made)}-0")
            )
    assert made["ann"] != made["bob"]
    with acting_for(ANN):
        answer = await storage.events.GetSubscription(event_store_pb2.GetSubscriptionRequest(name="desk"))
        assert answer.subscription.last_seen_stream_id == "1-0"
        await documents.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name="shared-name"))
        with pytest.raises(CollectionNotFound):
            await documents.GetCollection(document_store_pb2.GetCollectionRequest(name="shared-name"))
    with acting_for(BOB):
        await documents.GetCollection(document_store_pb2.GetCollectionRequest(name="shared-name"))
    with acting_for(ADMIN), pytest.raises(SubscriptionNotFound):
        await storage.events.GetSubscription(event_store_pb2.GetSubscriptionRequest(name="desk"))
    # Of several of a name, who sees all deletes one.
    with acting_for(ADMIN):
        await documents.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name="shared-name"))
        with pytest.raises(CollectionNotFound):
            await documents.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name="shared-name"))


async def test_who_sees_all_has_keys_of_their_own(storage: Any) -> None:
    agents, made = {}, {}
    for principal in (BOB, ADMIN, None):
        with acting_for(principal):
            agents[principal] = await storage.new_agent()
            made[principal] = await storage.new_task(agent_id=agents[principal], idempotency_key="nightly")
            again = await storage.new_task(agent_id=agents[principal], idempotency_key="nightly")
            assert again == made[principal]
    assert len(set(made.values())) == 3
    with acting_for(ADMIN):
        # A task of bob's agent is bob's, and so is its key.
        assert await storage.new_task(agent_id=agents[BOB], idempotency_key="nightly") == made[BOB]
        with pytest.raises(IdempotencyConflict):
            await storage.new_task(agent_id=agents[BOB], idempotency_key="nightly", request_hash="other")


async def test_a_fork_by_who_sees_all_meets_no_other_owners_key(storage: Any) -> None:
    histories: Any = history_store_pb2_grpc.HistoryStoreServiceStub(storage.channel)
    with acting_for(BOB):
        await storage.new_task(idempotency_key="weekly")
    with acting_for(ADMIN):
        origin = await storage.new_task()
    await storage.claim(origin)
    with acting_for(ADMIN):
        made = set()
        for _ in range(2):
            request = history_store_pb2.ForkTaskRequest(
                id=new_id(), task_id=origin, request_hash="f", answers="{}", idempotency_key="weekly"
            )
            made.add((await histories.ForkTask(request)).task.id)
    assert len(made) == 1


async def test_events_are_seen_by_their_tasks_owner(storage: Any) -> None:
    task_id, agent_id = new_id(), new_id()
    event = event_pb2.Event(
        stream_id="5-5", id=new_id(), task_id=task_id, agent_id=agent_id, kind=event_pb2.Event.KIND_LOG,
        level=event_pb2.Event.LEVEL_INFO, message="secret", context="{}", owner="ann",
    )  # fmt: skip
    event.timestamp.GetCurrentTime()
    await storage.events.AppendEvents(event_store_pb2.AppendEventsRequest(events=[event]))
    where = log_service_pb2.EventFilter(task_ids=[task_id])
    for principal, count in ((ANN, 1), (BOB, 0), (ADMIN, 1), (None, 1)):
        with acting_for(principal):
            answer = await storage.events.ListEvents(event_store_pb2.ListEventsRequest(page_size=10, filter=where))
        assert len(answer.events) == count, principal


async def test_a_documents_task_is_its_collections_owners(storage: Any) -> None:
    documents: Any = document_store_pb2_grpc.DocumentStoreServiceStub(storage.channel)
    with acting_for(ANN):
        request = document_store_pb2.InsertCollectionRequest(collection=collection("hers"))
        made = (await documents.InsertCollection(request)).collection
    with acting_for(ADMIN):
        task_id = await storage.new_task(
            agent_id=DOCUMENTS_AGENT_ID, input=f'{{"collection_id":"{made.id}","embedding_model":"m"}}'
        )
    assert await owners(storage, "tasks", task_id) == "ann"


async def test_a_turn_is_after_that_of_all_owners_who_wait(storage: Any) -> None:
    with acting_for(ANN):
        agent_id = await storage.new_agent()
        first = await storage.new_task(agent_id=agent_id)
    await storage.sql("UPDATE tasks SET turn = 700 WHERE status = 'pending'")
    with acting_for(BOB):
        second = await storage.new_task()
    rows = await storage.sql("SELECT id, turn FROM tasks WHERE id = ANY ($1::uuid[])", [first, second])
    assert {str(row["id"]): row["turn"] for row in rows} == {first: 700, second: 700}


async def test_no_table_is_open_to_owners_by_oversight(storage: Any) -> None:
    rows = await storage.sql(
        "SELECT relname, relrowsecurity, has_table_privilege('hearth_tenant', oid, 'SELECT') AS is_granted"
        " FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    granted = {row["relname"] for row in rows if row["is_granted"]}
    assert {row["relname"] for row in rows if row["relrowsecurity"]} == granted - THROUGH_DOCUMENTS
    assert not granted & HEARTHS_OWN
    policies = {row["tablename"] for row in await storage.sql("SELECT tablename FROM pg_policies")}
    assert policies == granted - THROUGH_DOCUMENTS


async def test_an_owner_cannot_step_out_of_its_role_by_what_it_sends(storage: Any) -> None:
    with acting_for(Principal(owner="x'; RESET ROLE; --")):
        agent_id = await storage.new_agent(name="'; RESET ROLE; --")
    assert await owners(storage, "agents", agent_id) == "x'; RESET ROLE; --"
    with acting_for(Principal(owner="")), pytest.raises(AgentNotFound):
        await storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=agent_id))


async def test_quotas_hold_whoever_accepts(storage: Any) -> None:
    few = Principal(owner=f"few-{new_id()}", tasks_per_minute=5)
    with acting_for(few):
        agent_id = await storage.new_agent()
        made = await asyncio.gather(
            *(storage.new_task(agent_id=agent_id, idempotency_key=f"k{n}") for n in range(15)), return_exceptions=True
        )
        over = [error for error in made if isinstance(error, QuotaExceeded)]
        assert len(over) == 10
        assert all(isinstance(error, QuotaExceeded | str) for error in made)
        assert {error.metadata["quota"] for error in over} == {"tasks_per_minute"}
        assert all(error.retry_after_seconds is not None and 0 < error.retry_after_seconds <= 60 for error in over)
        # What was accepted before is no new task.
        known = next(n for n, task in enumerate(made) if isinstance(task, str))
        assert await storage.new_task(agent_id=agent_id, idempotency_key=f"k{known}") == made[known]
        await storage.sql("UPDATE tasks SET created_at = created_at - interval '1 minute' WHERE owner = $1", few.owner)
        assert await storage.new_task(agent_id=agent_id)
    with acting_for(replace(few, tasks_per_minute=None, concurrent_runs=6)), pytest.raises(QuotaExceeded) as caught:
        await storage.new_task(agent_id=agent_id)
    assert caught.value.metadata["quota"] == "concurrent_runs"


async def test_tokens_of_a_day_are_counted_from_what_calls_used(storage: Any) -> None:
    thrifty = Principal(owner=f"thrifty-{new_id()}", tokens_per_day=100)
    with acting_for(thrifty):
        agent_id = await storage.new_agent()
        task_id = await storage.new_task(agent_id=agent_id)
    event = event_pb2.Event(
        stream_id="9-9", id=new_id(), task_id=task_id, agent_id=agent_id, kind=event_pb2.Event.KIND_USAGE,
        level=event_pb2.Event.LEVEL_INFO, context='{"prompt_tokens":90,"completion_tokens":10}', owner=thrifty.owner,
    )  # fmt: skip
    event.timestamp.GetCurrentTime()
    await storage.events.AppendEvents(event_store_pb2.AppendEventsRequest(events=[event]))
    with acting_for(thrifty), pytest.raises(QuotaExceeded) as caught:
        await storage.new_task(agent_id=agent_id)
    assert caught.value.metadata["quota"] == "tokens_per_day"
    with acting_for(replace(thrifty, tokens_per_day=101)):
        assert await storage.new_task(agent_id=agent_id)


@pytest.mark.parametrize("rights", ["CREATEROLE", "NOCREATEROLE"])
async def test_the_login_needs_to_be_no_superuser(postgres: Any, rights: str) -> None:
    name = f"plain_{new_id().replace('-', '')}"
    connection = await asyncpg.connect(postgres.get_uri())
    try:
        # As who runs the server does it, where the login may make no roles.
        await connection.execute(
            "DO $$ BEGIN CREATE ROLE hearth_tenant NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        await connection.execute(f"CREATE ROLE {name} LOGIN {rights}")
        await connection.execute(f"GRANT hearth_tenant TO {name}")
        await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
    finally:
        await connection.close()
    # An extension is a superuser's to add.
    connection = await asyncpg.connect(postgres.get_uri(name))
    await connection.execute("CREATE EXTENSION vector")
    await connection.close()
    url = postgres.get_uri(name).replace("//postgres:", f"//{name}:").replace("//postgres@", f"//{name}@")
    assert name in url.split("@")[0]
    settings = StorageSettings(database_url=url)
    assert "at revision" in await migrate(settings)
    async with open_database(settings) as database:
        agents = Agents(database)
        draft = AgentDraft(id=new_id(), name="hers", description="", model_name="m", config=None, is_active=True)
        with acting_for(ANN):
            agent = await agents.insert(draft)
        with acting_for(BOB), pytest.raises(AgentNotFound):
            await agents.get(agent.id)
        for principal in (ANN, ADMIN, None):
            with acting_for(principal):
                assert (await agents.get(agent.id)).name == "hers"


async def test_what_was_there_before_is_nobodys(postgres: Any) -> None:
    name = f"before_{new_id().replace('-', '')}"
    connection = await asyncpg.connect(postgres.get_uri())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    settings = StorageSettings(database_url=postgres.get_uri(name))
    await migrate(settings, "upgrade", "0010")
    agent_id, task_id = new_id(), new_id()
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(
        "INSERT INTO agents (id, name, description, model_name, config) VALUES ($1, 'old', '', 'm', '{}')", agent_id
    )
    await connection.execute(
        "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, next_attempt_at,"
        " idempotency_key) VALUES ($1, $2, 'pending', '{}', 3, '', '', now(), 'k')",
        task_id,
        agent_id,
    )
    await connection.execute(
        "INSERT INTO collections (id, name, description, embedding_model, chunk_tokens) VALUES ($1, 'c', '', 'm', 9)",
        new_id(),
    )
    await migrate(settings)
    rows = await connection.fetch(
        "SELECT owner FROM agents UNION ALL SELECT owner FROM tasks UNION ALL SELECT owner FROM collections"
    )
    assert {row["owner"] for row in rows} == {""}
    await connection.close()
    async with open_database(settings) as database:
        agents = Agents(database)
        with acting_for(ANN), pytest.raises(AgentNotFound):
            await agents.get(agent_id)
        for principal in (ADMIN, Principal(owner=""), None):
            with acting_for(principal):
                assert (await agents.get(agent_id)).name == "old"
    # And back, with what two owners call the same.
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(
        "INSERT INTO collections (id, owner, name, description, embedding_model, chunk_tokens)"
        " VALUES ($1, 'ann', 'c', '', 'm', 9)",
        new_id(),
    )
    await migrate(settings, "downgrade", "0010")
    names = [row["name"] for row in await connection.fetch("SELECT name FROM collections")]
    assert len(set(names)) == 2
    assert "c" in names
    await connection.close()


async def test_a_change_of_owner_that_is_cut_off_is_made_again(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetchrow = asyncpg.Connection.fetchrow

    async def cut_off(connection: asyncpg.Connection, query: str, *args: Any) -> None:
        await fetchrow(connection, query, *args)
        raise TimeoutError

    role = "SELECT current_setting('role') AS role"
    settings = storage.settings.model_copy(update={"database_pool_size": 1})
    async with open_database(settings) as database:
        with acting_for(ANN):
            assert [row["role"] for row in await database.fetch(role)] == ["hearth_tenant"]
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "fetchrow", cut_off)
            with pytest.raises(Unavailable):
                await database.fetch(role)
        with acting_for(ANN):
            assert [row["role"] for row in await database.fetch(role)] == ["hearth_tenant"]
