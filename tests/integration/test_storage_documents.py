"""Documents in PostgreSQL: uploads by parts, chunks and their vectors, search, and the change to another model."""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from hearth.agent.v1 import document_pb2
from hearth.storage.v1 import (
    chunk_store_pb2,
    chunk_store_pb2_grpc,
    document_store_pb2,
    document_store_pb2_grpc,
    task_store_pb2,
)
from hearth_runtime.agents import DOCUMENTS_AGENT_ID
from hearth_runtime.errors import (
    AttemptOutdated,
    CollectionExists,
    CollectionNotFound,
    DocumentIncomplete,
    DocumentNotFound,
    InvalidArgument,
)
from hearth_runtime.identifiers import new_id
from storage_service.attempts import Attempts
from storage_service.collections import Collections, SwitchOutcome
from storage_service.database import open_database
from storage_service.queries import load_queries
from storage_service.search import EmbeddedQuery, Searches
from storage_service.vector_indexes import VectorIndex, VectorIndexes, typed
from system.waiting import eventually

DIMENSIONS = 8


class Library:
    """A collection, and what is done with it as agent-service does."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.documents = document_store_pb2_grpc.DocumentStoreServiceStub(storage.channel)
        self.chunks = chunk_store_pb2_grpc.ChunkStoreServiceStub(storage.channel)
        self.name = f"c{new_id()}"
        self.id = new_id()

    async def create(self, model: str = "m") -> "Library":
        collection = document_pb2.Collection(id=self.id, name=self.name, embedding_model=model, chunk_tokens=256)
        await self.documents.InsertCollection(document_store_pb2.InsertCollectionRequest(collection=collection))
        return self

    async def begin(self, data: bytes, **fields: Any) -> Any:
        request = document_store_pb2.BeginDocumentRequest(
            **{
                "id": new_id(),
                "collection": self.name,
                "name": "a.txt",
                "media_type": "text/plain",
                "size_bytes": len(data),
                "content_hash": hashlib.sha256(data).hexdigest(),
                "metadata": "{}",
                **fields,
            }
        )
        return (await self.documents.BeginDocument(request)).document

    async def put(self, document_id: str, number: int, data: bytes) -> None:
        request = document_store_pb2.PutDocumentPartRequest(document_id=document_id, number=number, data=data)
        await self.documents.PutDocumentPart(request)

    async def accept(self, document_id: str) -> Any:
        task = task_store_pb2.CreateTaskRequest(
            id=new_id(),
            agent_id=DOCUMENTS_AGENT_ID,
            input="{}",
            request_hash="h",
            idempotency_key=f"document:{document_id}",
        )
        return await self.documents.AcceptDocument(document_store_pb2.AcceptDocumentRequest(id=document_id, task=task))

    async def get(self, document_id: str) -> Any:
        return (await self.documents.GetDocument(document_store_pb2.GetDocumentRequest(id=document_id))).document

    async def running(self, data: bytes, **fields: Any) -> tuple[str, str]:
        """A document whose task runs: its id and the task's."""
        document = await self.begin(data, **fields)
        await self.put(document.id, 0, data)
        task = (await self.accept(document.id)).task
        return document.id, await self.run(task.id)

    async def run(self, task_id: str) -> str:
        await self.storage.sql(
            "UPDATE tasks SET status = 'running', attempt = 1, lease_expires_at = now() + interval '1 h',"
            " next_attempt_at = NULL, rung_at = NULL, turn = NULL WHERE id = $1",
            task_id,
        )
        return task_id

    async def ready(
        self, texts: Sequence[str], vectors: Sequence[Sequence[float]], *, model: str = "m", **fields: Any
    ) -> str:
        """A document that can be found, of these chunks."""
        document_id, task_id = await self.running(f"{new_id()}".encode(), **fields)
        chunks = [
            chunk_store_pb2.Chunk(number=n, text=text, headings=["Top"], page=n + 1, start=n * 100, end=n * 100 + 9)
            for n, text in enumerate(texts)
        ]
        for start in range(0, len(chunks), 500):
            batch = chunks[start : start + 500]
            await self.chunks.PutChunks(
                chunk_store_pb2.PutChunksRequest(task_id=task_id, attempt=1, document_id=document_id, chunks=batch)
            )
        recorded = chunk_store_pb2.RecordTextRequest(
            task_id=task_id, attempt=1, document_id=document_id, character_count=9, chunk_count=len(chunks)
        )
        await self.chunks.RecordText(recorded)
        await self.embed(task_id, document_id, vectors, model=model)
        publish = chunk_store_pb2.PublishDocumentRequest(task_id=task_id, attempt=1, document_id=document_id)
        assert not (await self.chunks.PublishDocument(publish)).HasField("missing_model")
        return document_id

    async def unembedded(self, model: str, limit: int = 500, **within: Any) -> Any:
        request = chunk_store_pb2.ListUnembeddedRequest(model=model, limit=limit, **within)
        return await self.chunks.ListUnembedded(request)

    async def embed(
        self, task_id: str, document_id: str, vectors: Sequence[Sequence[float]], *, model: str = "m"
    ) -> None:
        given = iter(vectors)
        while chunks := (await self.unembedded(model, document_id=document_id)).chunks:
            await self.put_vectors(task_id, model, {chunk.id: next(given) for chunk in chunks})

    async def put_vectors(
        self, task_id: str, model: str, vectors: dict[int, Sequence[float]], attempt: int = 1
    ) -> None:
        request = chunk_store_pb2.PutVectorsRequest(
            task_id=task_id,
            attempt=attempt,
            model=model,
            vectors=[chunk_store_pb2.PutVectorsRequest.Vector(chunk_id=i, values=v) for i, v in vectors.items()],
        )
        await self.chunks.PutVectors(request)

    async def search(
        self, text: str = "", vector: Sequence[float] = (), *, model: str = "m", limit: int = 10, where: str = "{}"
    ) -> Any:
        embedded = chunk_store_pb2.SearchChunksRequest.Embedded(model=model, values=vector, collection_ids=[self.id])
        request = chunk_store_pb2.SearchChunksRequest(
            text=text,
            embedded=[embedded] if vector else [],
            collection_ids=[self.id],
            limit=limit,
            filter=where,
        )
        return (await self.chunks.SearchChunks(request)).chunks


@pytest.fixture
async def library(storage: Any) -> Library:
    return await Library(storage).create()


def unit(*values: float) -> list[float]:
    """A vector of DIMENSIONS numbers that begins so."""
    return [*values, *[0.0] * (DIMENSIONS - len(values))]


async def test_the_same_content_is_the_same_document_of_its_collection(library: Library, storage: Any) -> None:
    document = await library.begin(b"hello")
    assert document.status == document_pb2.Document.STATUS_UPLOADING
    assert (await library.begin(b"hello", name="b.txt")).id == document.id
    assert (await library.begin(b"other")).id != document.id
    other = await Library(storage).create()
    assert (await other.begin(b"hello")).id != document.id
    with pytest.raises(CollectionNotFound):
        await library.begin(b"hello", collection="nowhere")


async def test_a_document_is_accepted_once_all_its_parts_are_there(library: Library) -> None:
    document = await library.begin(b"hello world")
    await library.put(document.id, 1, b"world")
    with pytest.raises(DocumentIncomplete, match="5 of the document's 11 bytes"):
        await library.accept(document.id)
    await library.put(document.id, 0, b"hello-")
    await library.put(document.id, 0, b"hello ")
    answers = await asyncio.gather(*(library.accept(document.id) for _ in range(5)))
    assert len({answer.task.id for answer in answers}) == 1
    assert answers[0].task.queue == "documents"
    assert (await library.get(document.id)).status == document_pb2.Document.STATUS_PENDING
    with pytest.raises(DocumentIncomplete, match="taken in already"):
        await library.put(document.id, 0, b"hello ")
    parts = []
    for number in range(3):
        request = document_store_pb2.GetDocumentPartRequest(document_id=document.id, number=number)
        answer = await library.documents.GetDocumentPart(request)
        parts.append(answer.data if answer.HasField("data") else None)
    assert parts == [b"hello ", b"world", None]


async def test_an_upload_that_nobody_finished_is_forgotten(library: Library) -> None:
    document = await library.begin(b"left")
    accepted, _ = await library.running(b"kept")
    await library.storage.sql("UPDATE documents SET created_at = now() - interval '2 days'")
    await library.begin(b"next")
    with pytest.raises(DocumentNotFound):
        await library.get(document.id)
    await library.get(accepted)


async def test_a_document_is_as_its_task_until_it_is_ready(library: Library) -> None:
    document_id, task_id = await library.running(b"x")
    await library.storage.sql(
        "UPDATE tasks SET status = 'failed', lease_expires_at = NULL, completed_at = now(), error_code = 'e',"
        " error_message = 'why' WHERE id = $1",
        task_id,
    )
    document = await library.get(document_id)
    assert (document.status, document.error_code, document.error_message) == (
        document_pb2.Document.STATUS_FAILED, "e", "why"
    )  # fmt: skip


async def test_an_outdated_attempt_writes_nothing(library: Library) -> None:
    document_id, task_id = await library.running(b"x")
    chunk = chunk_store_pb2.Chunk(number=0, text="t", start=0, end=1)
    fields: dict[str, Any] = {"task_id": task_id, "attempt": 2, "document_id": document_id}
    for call in (
        library.chunks.PutChunks(chunk_store_pb2.PutChunksRequest(**fields, chunks=[chunk])),
        library.chunks.PutDocumentText(chunk_store_pb2.PutDocumentTextRequest(**fields, number=0, text="t")),
        library.chunks.RecordText(chunk_store_pb2.RecordTextRequest(**fields)),
        library.chunks.PublishDocument(chunk_store_pb2.PublishDocumentRequest(**fields)),
        library.put_vectors(task_id, "m", {1: unit(1)}, attempt=2),
    ):
        with pytest.raises(AttemptOutdated):
            await call
    assert (await library.unembedded("m", document_id=document_id)).total_count == 0
    assert (await library.get(document_id)).status == document_pb2.Document.STATUS_PENDING


async def test_chunks_that_have_a_vector_are_not_embedded_again(library: Library) -> None:
    document_id, task_id = await library.running(b"x")
    chunks = [chunk_store_pb2.Chunk(number=n, text=f"t{n}", headings=["a", "b"], start=n, end=n + 1) for n in range(5)]
    for _ in range(2):
        await library.chunks.PutChunks(
            chunk_store_pb2.PutChunksRequest(task_id=task_id, attempt=1, document_id=document_id, chunks=chunks)
        )
    publish = chunk_store_pb2.PublishDocumentRequest(task_id=task_id, attempt=1, document_id=document_id)
    assert (await library.chunks.PublishDocument(publish)).missing_model == "m"
    first = await library.unembedded("m", 2, document_id=document_id)
    assert ([chunk.text for chunk in first.chunks], first.missing_count, first.total_count) == (["t0", "t1"], 5, 5)
    assert list(first.chunks[0].headings) == ["a", "b"]
    for _ in range(2):
        await library.put_vectors(task_id, "m", {chunk.id: unit(1) for chunk in first.chunks})
    rest = await library.unembedded("m", document_id=document_id)
    assert ([chunk.text for chunk in rest.chunks], rest.missing_count) == (["t2", "t3", "t4"], 3)
    later = await library.unembedded("m", document_id=document_id, after_id=rest.chunks[0].id)
    assert ([chunk.text for chunk in later.chunks], later.missing_count, later.total_count) == (["t3", "t4"], 0, 0)
    with pytest.raises(InvalidArgument, match="vectors of 3 and 8 numbers"):
        await library.put_vectors(task_id, "m", {chunk.id: [1.0, 0, 0] for chunk in rest.chunks})


async def test_search_fuses_what_words_and_vectors_find(library: Library) -> None:
    document_id = await library.ready(
        ["Cats purr when content.", "Dogs bark at the postman.", "A motor hums."],
        [unit(1), unit(0, 1), unit(0.9, 0.1)],
        name="animals.txt",
        metadata='{"kind": "animals"}',
    )
    found = await library.search("barking dog", unit(1))
    # The second is the only one with the words; the first is the nearest, the third the next.
    assert {chunk.text[:4] for chunk in found} == {"Cats", "Dogs", "A mo"}
    dogs = next(chunk for chunk in found if chunk.text.startswith("Dogs"))
    assert dogs.score == pytest.approx(1 / 61 + 1 / 63)
    assert found[0] == dogs
    assert (dogs.document_id, dogs.document_name, dogs.collection) == (document_id, "animals.txt", library.name)
    assert (dogs.number, dogs.page, dogs.start, dogs.end, list(dogs.headings)) == (1, 2, 100, 109, ["Top"])
    assert (dogs.HasField("text_score"), dogs.vector_score) == (True, pytest.approx(0))
    cats = next(chunk for chunk in found if chunk.text.startswith("Cats"))
    assert (cats.HasField("text_score"), cats.vector_score) == (False, pytest.approx(1))
    assert [chunk.text for chunk in await library.search("barking dog")] == [dogs.text]
    assert await library.search("") == []
    assert await library.search("the of ' \\ & | ! <->") == []


async def test_words_that_most_chunks_have_count_only_by_themselves(library: Library) -> None:
    await library.ready([f"zebra number{n}" for n in range(99)] + ["okapi"], [unit(1)] * 100)
    assert len(await library.search("zebra okapi", limit=100)) == 100
    await library.storage.sql("ANALYZE chunks")
    assert [found.text for found in await library.search("zebra okapi", limit=100)] == ["okapi"]
    assert [found.text for found in await library.search("zebras with number7", limit=100)] == ["zebra number7"]
    assert len(await library.search("the zebra", limit=100)) == 99


async def test_what_is_not_ready_deleted_or_of_another_collection_is_not_found(library: Library, storage: Any) -> None:
    other = await Library(storage).create()
    await other.ready(["cats"], [unit(1)])
    document_id, task_id = await library.running(b"x")
    chunk = chunk_store_pb2.Chunk(number=0, text="cats", start=0, end=4)
    await library.chunks.PutChunks(
        chunk_store_pb2.PutChunksRequest(task_id=task_id, attempt=1, document_id=document_id, chunks=[chunk])
    )
    await library.embed(task_id, document_id, [unit(1)])
    assert await library.search("cats", unit(1)) == []
    ready = await library.ready(["cats"], [unit(1)])
    assert [found.document_id for found in await library.search("cats", unit(1))] == [ready]
    await library.documents.DeleteDocument(document_store_pb2.DeleteDocumentRequest(id=ready))
    assert await library.search("cats", unit(1)) == []
    with pytest.raises(DocumentNotFound):
        await library.get(ready)


async def test_a_filter_that_keeps_one_in_a_hundred_does_not_starve_the_result(storage: Any) -> None:
    model = f"filtered{new_id()}"
    library = await Library(storage).create(model)
    choice = random.Random(7)

    def vectors(count: int) -> list[list[float]]:
        return [[choice.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(count)]

    # The ones that the filter keeps are the farthest from the query, so that a scan comes to them last.
    await library.ready(["many"] * 3000, [unit(1, *v[1:3]) for v in vectors(3000)], model=model)
    rare = await library.ready(
        ["rare"] * 30, [unit(-1, *v[1:3]) for v in vectors(30)], model=model, metadata='{"rare": true, "n": 1}'
    )
    name = VectorIndex(table="chunk_vectors", model=model, dimensions=DIMENSIONS).name
    valid = "SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid"

    async def built() -> bool:
        return bool(await storage.sql(valid, name))

    await eventually(built)
    found = await library.search(vector=unit(1), model=model, where='{"rare": true}', limit=20)
    assert {chunk.document_id for chunk in found} == {rare}
    assert len(found) == 20
    assert await library.search(vector=unit(1), model=model, where='{"rare": false}') == []

    # The filter leaves few, so that was the exact order. The scan of the index starves none either.
    embedded = EmbeddedQuery(model=model, values=tuple(unit(1)), collection_ids=(library.id,))
    async with open_database(storage.settings) as database:
        along_index = Searches(database, VectorIndexes(storage.settings), few_chunks=0)
        assert len(await along_index.nearest(embedded, where={"rare": True}, limit=20)) == 20

        (few,) = await database.fetch(load_queries("search")["has_few_chunks"], [library.id], {"rare": True}, 30)
        (many,) = await database.fetch(load_queries("search")["has_few_chunks"], [library.id], {"rare": True}, 29)
        assert (few["has_few"], many["has_few"]) == (True, False)

    # The same search as the planner sees it: along the index.
    connection = await asyncpg.connect(storage.settings.database_url)
    await connection.execute("SET plan_cache_mode = force_custom_plan; ANALYZE chunk_vectors; SET enable_seqscan = off")
    await connection.execute("SET enable_sort = off; SET enable_bitmapscan = off")
    query = typed(load_queries("search")["nearest_chunks"], DIMENSIONS)
    vector = f"[{','.join(map(str, unit(1)))}]"
    plan = await connection.fetch(f"EXPLAIN {query}", vector, model, [library.id], "{}", 10)
    await connection.close()
    assert f"Index Scan using {name}" in "\n".join(row[0] for row in plan)


async def test_an_index_that_a_build_left_invalid_is_built_again(storage: Any) -> None:
    model = f"left{new_id()}"
    library = await Library(storage).create(model)
    index = VectorIndex(table="chunk_vectors", model=model, dimensions=DIMENSIONS)
    await library.ready(["a"], [unit(1)], model=model)
    indexes = VectorIndexes(storage.settings)

    async def is_built() -> bool:
        return await indexes.build(index)

    await eventually(is_built)
    await storage.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)", index.name)
    assert await indexes.build(index)
    assert await storage.sql("SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid", index.name)


async def test_another_model_is_searched_once_all_chunks_have_its_vectors(library: Library) -> None:
    first = await library.ready(["one", "two"], [unit(1), unit(0, 1)])
    _, task_id = await library.running(b"the task of the change")
    update = document_store_pb2.UpdateCollectionRequest(name=library.name, description="d", embedding_model="n")
    collection = (await library.documents.UpdateCollection(update)).collection
    assert (collection.embedding_model, collection.next_embedding_model) == ("m", "n")
    assert (collection.document_count, collection.chunk_count) == (1, 2)

    async def switch(model: str) -> str:
        request = chunk_store_pb2.SwitchModelRequest(task_id=task_id, attempt=1, collection_id=library.id, model=model)
        outcome = (await library.chunks.SwitchModel(request)).outcome
        return chunk_store_pb2.SwitchModelResponse.Outcome.Name(outcome).removeprefix("OUTCOME_")

    assert await switch("n") == "MISSING"
    assert await switch("other") == "SUPERSEDED"
    missing = await library.unembedded("n", collection_id=library.id)
    assert (len(missing.chunks), missing.missing_count, missing.total_count) == (2, 2, 2)
    await library.put_vectors(task_id, "n", {missing.chunks[0].id: [1.0, 0.0]})
    assert await switch("n") == "MISSING"
    # Served from the old ones meanwhile; what is taken in meanwhile needs vectors of both.
    assert len(await library.search(vector=unit(1))) == 2
    document_id, other_task = await library.running(b"meanwhile")
    chunk = chunk_store_pb2.Chunk(number=0, text="three", start=0, end=5)
    await library.chunks.PutChunks(
        chunk_store_pb2.PutChunksRequest(task_id=other_task, attempt=1, document_id=document_id, chunks=[chunk])
    )
    await library.embed(other_task, document_id, [unit(0, 0, 1)])
    publish = chunk_store_pb2.PublishDocumentRequest(task_id=other_task, attempt=1, document_id=document_id)
    assert (await library.chunks.PublishDocument(publish)).missing_model == "n"
    await library.embed(other_task, document_id, [[0.5, 0.5]], model="n")
    assert not (await library.chunks.PublishDocument(publish)).HasField("missing_model")
    await library.put_vectors(task_id, "n", {missing.chunks[1].id: [0.0, 1.0]})
    assert await switch("n") == "SWITCHED"
    assert await switch("n") == "SWITCHED"
    collection = (
        await library.documents.GetCollection(document_store_pb2.GetCollectionRequest(name=library.name))
    ).collection
    assert (collection.embedding_model, collection.HasField("next_embedding_model")) == ("n", False)
    found = await library.search(vector=[1.0, 0.0], model="n")
    assert {chunk.document_id for chunk in found} == {first, document_id}
    left = "SELECT DISTINCT model FROM chunk_vectors JOIN chunks ON chunks.id = chunk_id WHERE document_id = ANY ($1)"
    assert [row["model"] for row in await library.storage.sql(left, [first, document_id])] == ["n"]


async def test_old_vectors_are_dropped_some_at_a_time(library: Library) -> None:
    await library.ready(["one", "two"], [unit(1), unit(0, 1)])
    await library.ready(["three"], [unit(0, 0, 1)])
    _, task_id = await library.running(b"the task of the change")
    update = document_store_pb2.UpdateCollectionRequest(name=library.name, description="d", embedding_model="n")
    await library.documents.UpdateCollection(update)
    chunks = (await library.unembedded("n", collection_id=library.id)).chunks
    for place, chunk in enumerate(chunks):
        later = await library.unembedded("n", collection_id=library.id, after_id=chunk.id)
        assert list(later.chunks) == chunks[place + 1 :]
    await library.put_vectors(task_id, "n", {chunk.id: [1.0, 0.0] for chunk in chunks})
    old = "SELECT FROM chunk_vectors WHERE chunk_id = ANY ($1) AND model = 'm'"
    async with open_database(library.storage.settings) as database:
        collections = Collections(database, Attempts(database), drop_limit=2)
        for left in (1, 0):
            switched = await collections.switch(task_id, 1, collection_id=library.id, model="n")
            assert switched == (SwitchOutcome.SWITCHED, left > 0)
            assert len(await library.storage.sql(old, [chunk.id for chunk in chunks])) == left


async def test_collections_are_listed_by_name_and_deleted_with_their_documents(storage: Any) -> None:
    library = await Library(storage).create()
    same = Library(storage)
    same.name = library.name
    with pytest.raises(CollectionExists):
        await same.create()
    await library.create()
    document_id = await library.ready(["cats"], [unit(1)])
    names: list[str] = []
    token = ""
    while True:
        page = await library.documents.ListCollections(
            document_store_pb2.ListCollectionsRequest(page_size=2, page_token=token)
        )
        names += [collection.name for collection in page.collections]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(names)
    assert library.name in names
    await library.documents.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name=library.name))
    with pytest.raises(DocumentNotFound):
        await library.get(document_id)
    with pytest.raises(CollectionNotFound):
        await library.documents.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name=library.name))


async def test_documents_are_paged_the_newest_first(library: Library) -> None:
    ids = [(await library.begin(f"{n}".encode())).id for n in range(5)]
    found: list[str] = []
    token = ""
    while True:
        page = await library.documents.ListDocuments(
            document_store_pb2.ListDocumentsRequest(page_size=2, page_token=token, collection=library.name)
        )
        found += [document.id for document in page.documents]
        token = page.next_page_token
        if not token:
            break
    assert found == ids[::-1]


@pytest.mark.parametrize(
    ("vectors", "limit", "breadth"),
    [
        (-1, 10, "40"),
        (100_000, 10, "40"),
        (100_000, 50, "50"),
        (500_000, 50, "100"),
        (9e7, 10, "200"),
        (1e6, 300, "300"),
    ],
)
async def test_the_more_vectors_the_broader_a_scan(storage: Any, vectors: float, limit: int, breadth: str) -> None:
    async with open_database(storage.settings) as database, database.transaction() as transaction:
        # As ANALYZE or building an index notes it.
        await storage.sql("UPDATE pg_class SET reltuples = $1 WHERE oid = 'chunk_vectors'::regclass", vectors)
        await transaction.fetchrow(load_queries("search")["tune_scan"], limit)
        row = await transaction.fetchrow("SELECT current_setting('hnsw.ef_search') AS breadth")
    assert row is not None
    assert row["breadth"] == breadth
