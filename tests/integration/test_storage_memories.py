"""What agents remember, over gRPC and on real PostgreSQL: kept once, superseded, recalled in order, by the index."""

import asyncio
import math
from typing import Any

import asyncpg
import pytest
from hearth.agent.v1 import memory_pb2
from hearth.storage.v1 import memory_store_pb2 as pb
from hearth.storage.v1 import session_store_pb2, task_store_pb2
from hearth_runtime.errors import AgentNotFound, InvalidArgument, MemoryKnown, MemoryNotFound, SessionNotFound
from hearth_runtime.identifiers import new_id
from hearth_runtime.principals import Principal, acting_for
from storage_service.chunks import text_of
from storage_service.memory_vectors import SQL
from storage_service.vector_indexes import VectorIndex, VectorIndexes, typed

Scope = memory_pb2.Memory


def user(name: str) -> memory_pb2.MemorySubject:
    return memory_pb2.MemorySubject(scope=Scope.SCOPE_USER, subject=name)


def session(session_id: str) -> memory_pb2.MemorySubject:
    return memory_pb2.MemorySubject(scope=Scope.SCOPE_SESSION, subject=session_id)


AGENT = memory_pb2.MemorySubject(scope=Scope.SCOPE_AGENT)
ADA = user("ada")


def towards(degrees: float, model: str = "m") -> pb.MemoryEmbedding:
    """A unit vector in that direction: the cosine of the angle between two is their similarity."""
    angle = math.radians(degrees)
    return pb.MemoryEmbedding(model=model, values=[math.cos(angle), math.sin(angle), 0.0])


def keeping(agent_id: str, content: str, degrees: float = 0, **fields: Any) -> pb.KeepMemoryRequest:
    return pb.KeepMemoryRequest(
        **{
            "id": new_id(),
            "agent_id": agent_id,
            "subject": ADA,
            "content": content,
            "importance": 0.5,
            "source": Scope.SOURCE_TOOL,
            "embedding": towards(degrees),
            **fields,
        }
    )


async def keep(storage: Any, agent_id: str, content: str, degrees: float = 0, **fields: Any) -> Any:
    return await storage.memories.KeepMemory(keeping(agent_id, content, degrees, **fields))


async def recall(storage: Any, agent_id: str, degrees: float = 0, *subjects: Any, **fields: Any) -> list[Any]:
    request = pb.SearchMemoriesRequest(
        **{
            "agent_id": agent_id,
            "subjects": subjects or [ADA],
            "embedding": towards(degrees),
            "limit": 10,
            **fields,
        }
    )
    return list((await storage.memories.SearchMemories(request)).memories)


async def contents(storage: Any, agent_id: str, **fields: Any) -> list[str]:
    request = pb.ListMemoriesRequest(agent_id=agent_id, page_size=100, **fields)
    return [memory.content for memory in (await storage.memories.ListMemories(request)).memories]


async def test_a_models_vectors_are_of_one_length_for_all_owners(storage: Any) -> None:
    with acting_for(Principal(owner="ann")):
        await keep(storage, await storage.new_agent(), "Likes tea.", embedding=towards(0, "of-all"))
    longer = pb.MemoryEmbedding(model="of-all", values=[1.0, 0.0, 0.0, 0.0])
    with acting_for(Principal(owner="bob")):
        agent_id = await storage.new_agent()
        with pytest.raises(InvalidArgument, match="gives vectors of 4 numbers and gave some of 3"):
            await keep(storage, agent_id, "Likes tea.", embedding=longer)
        await keep(storage, agent_id, "Likes tea.", embedding=towards(0, "of-all"))


async def test_a_fact_is_kept_whole(storage: Any) -> None:
    task_id = await storage.new_task()
    (row,) = await storage.sql("SELECT agent_id FROM tasks WHERE id = $1", task_id)
    agent_id = str(row["agent_id"])
    kept = await keep(storage, agent_id, "Likes tea.", topic="drink", importance=0.7, task_id=task_id)
    memory = kept.memory
    assert kept.created
    assert (memory.content, memory.topic, memory.importance, memory.task_id) == ("Likes tea.", "drink", 0.7, task_id)
    assert (memory.scope, memory.subject, memory.source) == (Scope.SCOPE_USER, "ada", Scope.SOURCE_TOOL)
    assert (await storage.memories.GetMemory(pb.GetMemoryRequest(id=memory.id))).memory == memory


@pytest.mark.parametrize("again", ["My dog is called Rex.", " my  dog is called REX!", "My dog's name is Rex."])
async def test_a_fact_that_is_known_is_kept_once(storage: Any, again: str) -> None:
    agent_id = await storage.new_agent()
    first = await keep(storage, agent_id, "My dog is called Rex.", 0)
    second = await keep(storage, agent_id, again, 5, importance=0.9)
    assert not second.created
    assert (second.memory.id, second.memory.importance) == (first.memory.id, 0.9)
    assert second.memory.updated_at.ToNanoseconds() > first.memory.updated_at.ToNanoseconds()
    assert await contents(storage, agent_id) == ["My dog is called Rex."]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I am 34 now.", "I am 35 now."),
        ("I know Ada.", "I know Bob."),
        ("I eat fish.", "I don't eat fish."),
    ],
)
async def test_numbers_names_and_negations_make_another_fact_however_similar(
    storage: Any, one: str, other: str
) -> None:
    agent_id = await storage.new_agent()
    await keep(storage, agent_id, one, 0)
    assert (await keep(storage, agent_id, other, 1)).created


async def test_what_is_less_similar_is_another_fact(storage: Any) -> None:
    agent_id = await storage.new_agent()
    await keep(storage, agent_id, "Has a dog.", 0)
    assert (await keep(storage, agent_id, "Has a cat.", 20)).created
    assert len(await contents(storage, agent_id)) == 2


async def test_a_newer_fact_of_a_topic_supersedes_the_older_one_and_both_are_kept(storage: Any) -> None:
    agent_id = await storage.new_agent()
    paris = (await keep(storage, agent_id, "Lives in Paris.", 0, topic="home")).memory
    await keep(storage, agent_id, "Works in Paris.", 40, topic="work")
    await keep(storage, agent_id, "Lives in Paris.", 0, topic="home", subject=user("bob"))
    rome = await keep(storage, agent_id, "Lives in Rome.", 20, topic="home")
    assert list(rome.superseded_ids) == [paris.id]
    assert await contents(storage, agent_id, subject="ada") == ["Lives in Rome.", "Works in Paris."]
    history = await contents(storage, agent_id, subject="ada", include_superseded=True)
    assert history == ["Lives in Rome.", "Works in Paris.", "Lives in Paris."]
    old = (await storage.memories.GetMemory(pb.GetMemoryRequest(id=paris.id))).memory
    assert (old.superseded_by, old.HasField("superseded_at")) == (rome.memory.id, True)
    assert [found.memory.content for found in await recall(storage, agent_id, 0)] == [
        "Lives in Rome.",
        "Works in Paris.",
    ]
    back = await keep(storage, agent_id, "Lives in Paris.", 0, topic="home")
    assert back.created, "what was superseded may be told again"
    assert await contents(storage, agent_id, subject="bob") == ["Lives in Paris."]


async def test_the_same_told_by_many_at_once_is_kept_once(storage: Any) -> None:
    agent_id = await storage.new_agent()
    kept = await asyncio.gather(*(keep(storage, agent_id, "Likes tea.", n / 10) for n in range(10)))
    assert sum(k.created for k in kept) == 1
    cities = ["Paris", "Rome", "Oslo", "Bonn", "Bern"]
    await asyncio.gather(*(keep(storage, agent_id, f"Lives in {c}.", 40, topic="home") for c in cities))
    homes = [c for c in await contents(storage, agent_id) if c.startswith("Lives")]
    assert len(homes) == 1


async def test_scopes_and_subjects_are_apart(storage: Any) -> None:
    agent_id, other_agent, session_id = await storage.new_agent(), await storage.new_agent(), new_id()
    await storage.new_task(agent_id=agent_id, session_id=session_id)
    for subject in (AGENT, session(session_id), ADA, user("bob")):
        assert (await keep(storage, agent_id, f"of {subject.subject or 'all'}", subject=subject)).created
    assert (await keep(storage, other_agent, "of ada")).created
    found = await recall(storage, agent_id, 0, AGENT, ADA)
    assert {f.memory.content for f in found} == {"of all", "of ada"}
    assert await contents(storage, agent_id, scope=Scope.SCOPE_SESSION) == [f"of {session_id}"]
    await storage.empty_queue()
    await storage.sessions.DeleteSession(session_store_pb2.DeleteSessionRequest(id=session_id))
    assert await contents(storage, agent_id, scope=Scope.SCOPE_SESSION) == []
    with pytest.raises(SessionNotFound):
        await keep(storage, agent_id, "x", subject=session(session_id))
    with pytest.raises(AgentNotFound):
        await keep(storage, new_id(), "x")


async def test_recall_weighs_similarity_recency_and_importance(storage: Any) -> None:
    agent_id = await storage.new_agent()
    near = (await keep(storage, agent_id, "near", 0)).memory
    await keep(storage, agent_id, "a bit further", 25)
    await keep(storage, agent_id, "a bit further, but important", -25, importance=1.0)
    await keep(storage, agent_id, "far", 90)

    async def order() -> list[str]:
        return [found.memory.content for found in await recall(storage, agent_id, 0)]

    assert await order() == ["a bit further, but important", "near", "a bit further", "far"]
    await storage.sql("UPDATE memories SET updated_at = now() - interval '30 days' WHERE id = $1", near.id)
    assert await order() == ["a bit further, but important", "a bit further", "near", "far"]
    found = (await recall(storage, agent_id, 0))[2]
    assert (found.similarity, found.relevance) == (pytest.approx(1, abs=1e-6), 1)
    assert found.recency == pytest.approx(0.5, abs=0.001)
    assert found.score == pytest.approx(0.6 + 0.2 * 0.5 + 0.2 * 0.5, abs=0.001)


async def test_what_is_recalled_is_recent_again(storage: Any) -> None:
    agent_id = await storage.new_agent()
    memory = (await keep(storage, agent_id, "old", 0)).memory
    await storage.sql("UPDATE memories SET updated_at = now() - interval '60 days' WHERE id = $1", memory.id)
    assert (await recall(storage, agent_id, 0))[0].recency == pytest.approx(0.25, abs=0.001)
    await recall(storage, agent_id, 0, is_recall=True)
    (found,) = await recall(storage, agent_id, 0)
    assert found.recency == pytest.approx(1, abs=0.001)
    assert found.memory.recall_count == 1


async def test_the_index_serves_recall_and_a_filter_starves_nothing(storage: Any) -> None:
    agent_id = await storage.new_agent()
    # Two thousand facts of others lie nearer than the three that may be recalled.
    await storage.sql(
        "WITH fact AS (INSERT INTO memories (id, agent_id, scope, subject, content, content_hash, importance, source)"
        " SELECT gen_random_uuid(), $1, 'user', CASE WHEN n <= 3 THEN 'ada' ELSE 'u' || n % 50 END, 'fact ' || n,"
        " 'h' || n, 0.5, 'api' FROM generate_series(1, 2003) AS n RETURNING id, subject)"
        " INSERT INTO embeddings (id, memory_id, vector, content_hash, model)"
        " SELECT gen_random_uuid(), id, (CASE WHEN subject = 'ada' THEN '[0,1,0]' ELSE format('[1,%s,0]',"
        " random() / 10) END)::vector, 'h', 'big' FROM fact",
        agent_id,
    )
    index = VectorIndex(table="embeddings", model="big", dimensions=3)
    assert await VectorIndexes(storage.settings).build(index)
    await storage.sql("ANALYZE memories")
    await storage.sql("ANALYZE embeddings")
    found = await recall(storage, agent_id, 0, embedding=towards(0, "big"), limit=3)
    assert {f.memory.subject for f in found} == {"ada"}
    assert len(found) == 3
    # Of all users at once there is nothing better than the index; a custom plan sees the values, as here.
    statement = (
        typed(SQL["recall"], 3)
        .replace("$1::text", f"'{text_of(towards(0).values)}'")
        .replace("$2", "'big'")
        .replace("$3", f"'{agent_id}'")
        .replace("$4::text[]", "array_fill('user'::text, ARRAY[50])")
        .replace("$5::text[]", "(SELECT array_agg('u' || n) FROM generate_series(0, 49) AS n)")
        .replace("$6", "40")
        .replace("$7", "10")
    )
    plan = "\n".join(row[0] for row in await storage.sql(f"EXPLAIN {statement}"))
    assert f"Index Scan using {index.name}" in plan, plan


async def test_history_that_lies_nearer_starves_nothing(new_database: Any, open_storage: Any) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    # So that PostgreSQL takes the index, as it would of its own accord where there is far more.
    await connection.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database()); END $$"
    )
    await connection.close()
    async with open_storage(url) as storage:
        agent_id = await storage.new_agent()
        await storage.sql(
            "WITH fact AS (INSERT INTO memories (id, agent_id, scope, subject, content, content_hash, importance,"
            " source, superseded_at) SELECT gen_random_uuid(), $1, 'user', 'ada', 'fact ' || n, 'h' || n, 0.5, 'api',"
            " CASE WHEN n > 20 THEN now() END FROM generate_series(1, 1000) AS n RETURNING id, superseded_at)"
            " INSERT INTO embeddings (id, memory_id, vector, content_hash, model)"
            " SELECT gen_random_uuid(), id, (CASE WHEN superseded_at IS NULL THEN format('[%s,1,0]', random() / 10)"
            " ELSE format('[1,%s,0]', random() / 10) END)::vector, 'h', 'm' FROM fact",
            agent_id,
        )
        index = VectorIndex(table="embeddings", model="m", dimensions=3)
        assert await VectorIndexes(storage.settings).build(index)
        assert len(await recall(storage, agent_id, 0)) == 10


async def test_a_subject_forgets_what_is_worth_the_least_where_it_has_too_many(
    new_database: Any, open_storage: Any
) -> None:
    async with open_storage(await new_database(), memory_limit=3) as storage:
        agent_id = await storage.new_agent()
        await keep(storage, agent_id, "Lives in Paris.", 0, topic="home")
        await keep(storage, agent_id, "Lives in Rome.", 20, topic="home", importance=0.2)
        await keep(storage, agent_id, "important", 40, importance=0.9)
        await keep(storage, agent_id, "Likes tea.", 60)
        assert await contents(storage, agent_id, include_superseded=True) == [
            "Likes tea.",
            "important",
            "Lives in Rome.",
        ], "history goes first"
        await keep(storage, agent_id, "unimportant, but the newest", 80, importance=0.1)
        assert await contents(storage, agent_id) == ["unimportant, but the newest", "Likes tea.", "important"]


async def test_facts_are_changed_and_forgotten(storage: Any) -> None:
    agent_id = await storage.new_agent()
    tea = (await keep(storage, agent_id, "Likes tea.", 0)).memory
    dog = (await keep(storage, agent_id, "Has a dog.", 40)).memory

    async def change(memory_id: str, **fields: Any) -> Any:
        return (await storage.memories.UpdateMemory(pb.UpdateMemoryRequest(id=memory_id, **fields))).memory

    assert (await change(tea.id, importance=0.9, topic="drink")).topic == "drink"
    changed = await change(tea.id, content="Likes coffee.", embedding=towards(90), topic="")
    assert (changed.content, changed.HasField("topic"), changed.importance) == ("Likes coffee.", False, 0.9)
    assert (await recall(storage, agent_id, 90))[0].memory.content == "Likes coffee."
    with pytest.raises(MemoryKnown):
        await change(tea.id, content="has a dog", embedding=towards(40))
    with pytest.raises(InvalidArgument):
        await change(tea.id, content="without a vector")
    await storage.memories.DeleteMemory(pb.DeleteMemoryRequest(id=dog.id))
    for call in (
        storage.memories.DeleteMemory(pb.DeleteMemoryRequest(id=dog.id)),
        storage.memories.GetMemory(pb.GetMemoryRequest(id="no-uuid")),
        change(dog.id, importance=0.1),
        storage.memories.PutMemoryEmbedding(pb.PutMemoryEmbeddingRequest(memory_id=dog.id, embedding=towards(0))),
    ):
        with pytest.raises(MemoryNotFound):
            await call
    assert not await storage.sql("SELECT FROM embeddings WHERE memory_id = $1", dog.id)
    forgetting = pb.ForgetMemoriesRequest(agent_id=agent_id, subject=ADA)
    assert (await storage.memories.ForgetMemories(forgetting)).forgotten_count == 1
    assert await contents(storage, agent_id) == []


async def test_another_model_embeds_what_it_has_no_vector_of(storage: Any) -> None:
    agent_id = await storage.new_agent()
    memory = (await keep(storage, agent_id, "Likes tea.", 0)).memory
    wanted = pb.ListUnembeddedMemoriesRequest(agent_id=agent_id, subjects=[ADA], model="other")
    assert [m.id for m in (await storage.memories.ListUnembeddedMemories(wanted)).memories] == [memory.id]
    assert await recall(storage, agent_id, embedding=pb.MemoryEmbedding(model="other", values=[1, 0])) == []
    put = pb.PutMemoryEmbeddingRequest(memory_id=memory.id, embedding=pb.MemoryEmbedding(model="other", values=[0, 1]))
    await storage.memories.PutMemoryEmbedding(put)
    await storage.memories.PutMemoryEmbedding(put)
    assert not (await storage.memories.ListUnembeddedMemories(wanted)).memories
    (found,) = await recall(storage, agent_id, embedding=pb.MemoryEmbedding(model="other", values=[0, 1]))
    assert found.memory.id == memory.id
    with pytest.raises(InvalidArgument, match="HEARTH_EMBEDDING_MODEL"):
        await recall(storage, agent_id, embedding=pb.MemoryEmbedding(model="other", values=[0, 1, 0]))


async def test_what_is_not_valid_is_refused_by_name(storage: Any) -> None:
    agent_id = await storage.new_agent()
    for field, request in {
        "content": keeping(agent_id, " "),
        "importance": keeping(agent_id, "x", importance=1.5),
        "subject.subject": keeping(agent_id, "x", subject=user("")),
        "embedding.values": keeping(agent_id, "x", embedding=pb.MemoryEmbedding(model="m")),
        "topic": keeping(agent_id, "x", topic="t" * 101),
    }.items():
        with pytest.raises(InvalidArgument) as caught:
            await storage.memories.KeepMemory(request)
        assert caught.value.fields[0].field == field
    with pytest.raises(AgentNotFound):
        await recall(storage, new_id())


async def test_a_task_tells_its_user(storage: Any) -> None:
    task_id = await storage.new_task(user="ada")
    assert (await storage.tasks.GetTask(task_store_pb2.GetTaskRequest(id=task_id))).task.user == "ada"
    assert (await storage.claim(task_id)).task.user == "ada"
