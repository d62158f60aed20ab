"""Documents from their upload to a search: once for each content, on after a kill, anew for another model."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agent_service.documents import SearchMode
from agent_service.ingest import BATCH_CHUNKS, IngestWorkflow
from hearth_runtime.documents import DocumentStatus
from hearth_runtime.errors import CollectionNotFound, DocumentIncomplete, DocumentNotFound
from hearth_runtime.identifiers import new_id
from hearth_runtime.redis_streams import tasks_stream
from hearth_runtime.tasks import DOCUMENTS, TaskStatus
from redis.asyncio import Redis
from servers.agent_bench import Bench
from servers.document_desk import HANDBOOK, Desk, desk_at


@pytest.fixture
async def desk(bench: Bench, redis: Redis, redis_url: str) -> AsyncIterator[Desk]:
    async with desk_at(bench, redis, redis_url) as opened:
        yield opened


@pytest.fixture
async def collection(desk: Desk) -> str:
    made = await desk.documents.create_collection(
        name=f"c{new_id()}", description="", embedding_model=None, chunk_tokens=32
    )
    assert made.embedding_model == "m"
    return made.name


async def test_a_document_is_read_and_found(desk: Desk, collection: str, redis: Redis) -> None:
    document, task = await desk.upload(HANDBOOK, collection=collection, name="handbook.md", year=2026)
    assert (document.status, document.task_id, task.queue) == (DocumentStatus.PENDING, task.id, DOCUMENTS)
    assert await redis.xlen(tasks_stream(DOCUMENTS)) == 1
    assert await desk.search("holiday", collection=collection) == []
    ended = await desk.run(task.id)
    assert ended.status is TaskStatus.COMPLETED
    assert ended.output is not None
    assert ended.output["data"] == {
        "document_id": document.id, "collection": collection, "pages": None, "characters": len(HANDBOOK), "chunks": 3
    }  # fmt: skip
    document = await desk.stored.get(document.id)
    assert (document.status, document.chunk_count) == (DocumentStatus.READY, 3)
    best = (await desk.search("How much may a hotel cost?", collection=collection))[0]
    assert best.headings == ("Handbook", "Travel", "Hotels")
    assert HANDBOOK.decode()[best.start : best.end] == best.text == "### Hotels\n" + HANDBOOK.decode().splitlines()[-1]
    assert (best.document_name, best.metadata) == ("handbook.md", {"year": 2026})
    assert await desk.chunks.text(document.id, 0) == HANDBOOK.decode()
    assert await desk.chunks.text(document.id, 1) is None
    assert desk.embedder.texts[1].startswith("handbook.md > Handbook > Holidays\n")
    (text_only,) = await desk.search("hotels", collection=collection, mode=SearchMode.TEXT)
    assert (text_only.headings[-1], text_only.vector_score) == ("Hotels", None)
    by_vector = await desk.search("hotels", collection=collection, mode=SearchMode.VECTOR)
    assert len(by_vector) == 3
    assert {found.text_score for found in by_vector} == {None}
    assert await desk.bench.steps(task.id) == [
        (1, "read", "started"),
        (1, "read", "finished"),
        (1, "embed", "started"),
        (1, "embed", "progress"),
        (1, "embed", "finished"),
        (1, "publish", "started"),
        (1, "publish", "finished"),
    ]


async def test_the_same_content_is_taken_in_once(desk: Desk, collection: str) -> None:
    document, task = await desk.upload(HANDBOOK, collection=collection)
    again, same_task = await desk.upload(HANDBOOK, collection=collection, name="other.md")
    assert (again.id, same_task.id) == (document.id, task.id)
    await desk.run(task.id)
    embedded = len(desk.embedder.texts)
    again, same_task = await desk.upload(HANDBOOK, collection=collection)
    assert (again.id, again.status, same_task.id) == (document.id, DocumentStatus.READY, task.id)
    assert len(desk.embedder.texts) == embedded


async def test_after_a_kill_only_what_has_no_vector_is_embedded(desk: Desk, collection: str, storage: Any) -> None:
    data = "\n\n".join(f"Fact {n} of many. {'word ' * 20}" for n in range(300)).encode()
    _, task = await desk.upload(data, collection=collection, name="facts.txt")
    desk.embedder.stop_after = 3 * BATCH_CHUNKS
    run, running = await desk.bench.run_task(task.id, IngestWorkflow(), queue=DOCUMENTS)
    async with asyncio.timeout(30):
        await desk.embedder.stopped.wait()
    # As a kill: nothing more is written, and the lease runs out.
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    del run
    desk.embedder.stop_after = None
    await storage.sql(
        "UPDATE tasks SET status = 'pending', turn = 0, next_attempt_at = now(), lease_expires_at = NULL,"
        " rung_at = now() WHERE id = $1",
        task.id,
    )
    ended = await desk.run(task.id)
    assert (ended.status, ended.attempt) == (TaskStatus.COMPLETED, 2)
    assert ended.output is not None
    chunks = ended.output["data"]["chunks"]
    assert chunks >= 150
    assert len(desk.embedder.texts) == len(set(desk.embedder.texts)) == chunks
    told = [event.context for event in await desk.bench.events(task.id) if event.context.get("phase") == "progress"]
    sizes = [min(n, chunks) for n in range(BATCH_CHUNKS, chunks + BATCH_CHUNKS, BATCH_CHUNKS)]
    assert [(said["done"], said["total"]) for said in told] == [(size, chunks) for size in sizes]
    assert (2, "embed", "resumed") in await desk.bench.steps(task.id)
    assert (2, "read", "started") not in await desk.bench.steps(task.id)


async def test_what_cannot_be_read_fails_at_once_and_says_why(desk: Desk, collection: str, storage: Any) -> None:
    document, task = await desk.upload(b"%PDF-1.4 garbage", collection=collection, name="a.pdf")
    ended = await desk.run(task.id)
    assert (ended.status, ended.error_code, ended.retry_count) == (TaskStatus.FAILED, "document_unreadable", 0)
    document = await desk.stored.get(document.id)
    assert document.status is DocumentStatus.FAILED
    assert (
        document.error_message
        == "a.pdf cannot be read. It is a damaged PDF file. Print it to a new PDF and upload that."
    )
    # To upload it again is to try it again, however much later that is.
    await storage.sql("DELETE FROM checkpoints WHERE task_id = $1", task.id)
    await storage.sql("DELETE FROM task_histories WHERE task_id = $1", task.id)
    document, again = await desk.upload(b"%PDF-1.4 garbage", collection=collection, name="a.pdf")
    assert (again.id, again.status, document.status) == (task.id, TaskStatus.PENDING, DocumentStatus.PENDING)


async def test_a_document_that_is_deleted_is_read_no_further(desk: Desk, collection: str) -> None:
    document, task = await desk.upload(HANDBOOK, collection=collection)
    await desk.documents.delete(document.id)
    assert (await desk.bench.stored.get(task.id)).status is TaskStatus.CANCELLED
    with pytest.raises(DocumentNotFound):
        await desk.stored.get(document.id)


async def test_another_model_embeds_all_anew_and_is_searched_then(desk: Desk, collection: str) -> None:
    _, task = await desk.upload(HANDBOOK, collection=collection)
    await desk.run(task.id)
    changed, task_or_none = await desk.documents.update_collection(collection, description="d", embedding_model="n")
    assert task_or_none is not None
    _, same = await desk.documents.update_collection(collection, description="d", embedding_model="n")
    assert same is not None
    assert same.id == task_or_none.id
    assert (changed.embedding_model, changed.next_embedding_model) == ("m", "n")
    assert (await desk.search("hotel", collection=collection))[0].vector_score is not None
    ended = await desk.run(task_or_none.id)
    assert ended.output is not None
    assert ended.output["data"]["outcome"] == "switched"
    now = await desk.stored.collection(collection)
    assert (now.embedding_model, now.next_embedding_model, now.description) == ("n", None, "d")
    assert (await desk.search("hotel", collection=collection))[0].headings[-1] == "Hotels"
    unchanged, nothing = await desk.documents.update_collection(collection, description="d", embedding_model="n")
    assert (unchanged, nothing) == (now, None)


async def test_a_document_that_comes_while_the_model_changes_has_vectors_of_both(desk: Desk, collection: str) -> None:
    await desk.documents.update_collection(collection, description="", embedding_model="n")
    document, task = await desk.upload(HANDBOOK, collection=collection)
    ended = await desk.run(task.id)
    assert ended.status is TaskStatus.COMPLETED
    assert len(desk.embedder.texts) == 6
    assert (await desk.chunks.unembedded_of_document(document.id, model="n", limit=1)).missing_count == 0


async def test_the_default_collection_is_made_when_it_is_needed(desk: Desk) -> None:
    document, _ = await desk.upload(b"text", collection="default", name="a.txt")
    assert document.collection == "default"
    assert await desk.stored.collection("default")
    with pytest.raises(CollectionNotFound):
        await desk.begin(b"text", collection="nowhere")
    with pytest.raises(CollectionNotFound):
        await desk.search("x", collection="nowhere")


async def test_what_has_not_come_whole_is_not_accepted(desk: Desk, collection: str) -> None:
    document = await desk.begin(b"abc", collection=collection)
    with pytest.raises(DocumentIncomplete):
        await desk.documents.accept(document.id)
