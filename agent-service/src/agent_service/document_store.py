"""Collections, documents and chunks, as storage-service keeps them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc.aio
import orjson
from hearth.storage.v1 import (
    chunk_store_pb2,
    chunk_store_pb2_grpc,
    document_store_pb2,
    document_store_pb2_grpc,
    task_store_pb2,
)
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.documents import Chunk, Collection, Document, FoundChunk, UnembeddedChunk
from hearth_runtime.tasks import Task

from agent_service.tasks import NewTask


@dataclass(frozen=True, kw_only=True)
class NewCollection:
    """What a collection is made of."""

    id: str
    name: str
    description: str
    embedding_model: str
    chunk_tokens: int


@dataclass(frozen=True, kw_only=True)
class NewDocument:
    """What a document is made of."""

    id: str
    collection: str
    name: str
    media_type: str
    size_bytes: int
    content_hash: str
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EmbeddedQuery:
    """A query as one model embeds it, for the collections that are searched by that model."""

    model: str
    values: tuple[float, ...]
    collection_ids: tuple[str, ...]


class SwitchOutcome(StrEnum):
    """What became of a collection's change to another model."""

    SWITCHED = "switched"
    MISSING = "missing"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, kw_only=True)
class Unembedded:
    """Some chunks that lack a vector; how many lack one, and how many there are, where that was counted."""

    chunks: tuple[UnembeddedChunk, ...]
    missing_count: int
    total_count: int


class StoredDocuments:
    """The tables `collections`, `documents` and `document_parts`; the errors are those of DocumentStoreService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = document_store_pb2_grpc.DocumentStoreServiceStub(channel)

    async def insert_collection(self, new: NewCollection) -> Collection:
        message = document_store_pb2.InsertCollectionRequest()
        message.collection.MergeFrom(to_message(new, type(message.collection)))
        return from_message((await self._stub.InsertCollection(message)).collection, Collection)

    async def collection(self, name: str) -> Collection:
        answer = await self._stub.GetCollection(document_store_pb2.GetCollectionRequest(name=name))
        return from_message(answer.collection, Collection)

    async def collections(self, *, size: int, token: str) -> tuple[tuple[Collection, ...], str]:
        answer = await self._stub.ListCollections(
            document_store_pb2.ListCollectionsRequest(page_size=size, page_token=token)
        )
        return tuple(from_message(c, Collection) for c in answer.collections), answer.next_page_token

    async def update_collection(self, name: str, *, description: str, embedding_model: str) -> Collection:
        answer = await self._stub.UpdateCollection(
            document_store_pb2.UpdateCollectionRequest(
                name=name, description=description, embedding_model=embedding_model
            )
        )
        return from_message(answer.collection, Collection)

    async def delete_collection(self, name: str) -> None:
        await self._stub.DeleteCollection(document_store_pb2.DeleteCollectionRequest(name=name))

    async def begin(self, new: NewDocument) -> Document:
        answer = await self._stub.BeginDocument(to_message(new, document_store_pb2.BeginDocumentRequest))
        return from_message(answer.document, Document)

    async def put_part(self, document_id: str, number: int, data: bytes) -> None:
        await self._stub.PutDocumentPart(
            document_store_pb2.PutDocumentPartRequest(document_id=document_id, number=number, data=data)
        )

    async def accept(self, document_id: str, task: NewTask) -> tuple[Document, Task, bool]:
        """The document and the task that reads it; whether that was made now."""
        answer = await self._stub.AcceptDocument(
            document_store_pb2.AcceptDocumentRequest(
                id=document_id, task=to_message(task, task_store_pb2.CreateTaskRequest)
            )
        )
        return from_message(answer.document, Document), from_message(answer.task, Task), answer.created

    async def get(self, document_id: str) -> Document:
        answer = await self._stub.GetDocument(document_store_pb2.GetDocumentRequest(id=document_id))
        return from_message(answer.document, Document)

    async def page(self, *, size: int, token: str, collection: str | None) -> tuple[tuple[Document, ...], str]:
        answer = await self._stub.ListDocuments(
            document_store_pb2.ListDocumentsRequest(page_size=size, page_token=token, collection=collection)
        )
        return tuple(from_message(d, Document) for d in answer.documents), answer.next_page_token

    async def delete(self, document_id: str) -> None:
        await self._stub.DeleteDocument(document_store_pb2.DeleteDocumentRequest(id=document_id))

    async def part(self, document_id: str, number: int) -> bytes | None:
        """A part of the file; None after the last one."""
        answer = await self._stub.GetDocumentPart(
            document_store_pb2.GetDocumentPartRequest(document_id=document_id, number=number)
        )
        return answer.data if answer.HasField("data") else None


class StoredChunks:
    """The tables `document_texts`, `chunks` and `chunk_vectors`.

    Every write is an attempt's, and raises AttemptOutdated where another one has taken over.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = chunk_store_pb2_grpc.ChunkStoreServiceStub(channel)

    async def put_text(self, task: Task, *, document_id: str, number: int, text: str) -> None:
        await self._stub.PutDocumentText(
            chunk_store_pb2.PutDocumentTextRequest(
                task_id=task.id, attempt=task.attempt, document_id=document_id, number=number, text=text
            )
        )

    async def text(self, document_id: str, number: int) -> str | None:
        """A part of the text; None after the last one."""
        answer = await self._stub.GetDocumentText(
            chunk_store_pb2.GetDocumentTextRequest(document_id=document_id, number=number)
        )
        return answer.text if answer.HasField("text") else None

    async def put_chunks(self, task: Task, *, document_id: str, chunks: Iterable[Chunk]) -> None:
        await self._stub.PutChunks(
            chunk_store_pb2.PutChunksRequest(
                task_id=task.id,
                attempt=task.attempt,
                document_id=document_id,
                chunks=[to_message(chunk, chunk_store_pb2.Chunk) for chunk in chunks],
            )
        )

    async def record_text(
        self, task: Task, *, document_id: str, page_count: int | None, character_count: int, chunk_count: int
    ) -> None:
        await self._stub.RecordText(
            chunk_store_pb2.RecordTextRequest(
                task_id=task.id,
                attempt=task.attempt,
                document_id=document_id,
                page_count=page_count,
                character_count=character_count,
                chunk_count=chunk_count,
            )
        )

    async def unembedded_of_document(
        self, document_id: str, *, model: str, limit: int, after_id: int | None = None
    ) -> Unembedded:
        """Chunks of the document that lack a vector of the model; those after one are not counted."""
        return await self._unembedded(
            chunk_store_pb2.ListUnembeddedRequest(document_id=document_id, model=model, limit=limit, after_id=after_id)
        )

    async def unembedded_of_collection(
        self, collection_id: str, *, model: str, limit: int, after_id: int | None = None
    ) -> Unembedded:
        """Chunks of what can be found of the collection, as of a document."""
        return await self._unembedded(
            chunk_store_pb2.ListUnembeddedRequest(
                collection_id=collection_id, model=model, limit=limit, after_id=after_id
            )
        )

    async def _unembedded(self, request: chunk_store_pb2.ListUnembeddedRequest) -> Unembedded:
        return from_message(await self._stub.ListUnembedded(request), Unembedded)

    async def put_vectors(self, task: Task, *, model: str, vectors: Iterable[tuple[int, Sequence[float]]]) -> None:
        """Keeps the vectors, each with the id of its chunk."""
        await self._stub.PutVectors(
            chunk_store_pb2.PutVectorsRequest(
                task_id=task.id,
                attempt=task.attempt,
                model=model,
                vectors=[
                    chunk_store_pb2.PutVectorsRequest.Vector(chunk_id=chunk_id, values=values)
                    for chunk_id, values in vectors
                ],
            )
        )

    async def publish(self, task: Task, *, document_id: str) -> str | None:
        """Lets the document be found; or gives a model whose vectors it lacks."""
        answer = await self._stub.PublishDocument(
            chunk_store_pb2.PublishDocumentRequest(task_id=task.id, attempt=task.attempt, document_id=document_id)
        )
        return answer.missing_model if answer.HasField("missing_model") else None

    async def switch_model(self, task: Task, *, collection_id: str, model: str) -> SwitchOutcome:
        """Has the collection searched by the model, if all its chunks have vectors of it, and drops the others."""
        request = chunk_store_pb2.SwitchModelRequest(
            task_id=task.id, attempt=task.attempt, collection_id=collection_id, model=model
        )
        answer = await self._stub.SwitchModel(request)
        while answer.has_others:
            answer = await self._stub.SwitchModel(request)
        name = chunk_store_pb2.SwitchModelResponse.Outcome.Name(answer.outcome)
        return SwitchOutcome(name.removeprefix("OUTCOME_").lower())

    async def search(
        self,
        *,
        text: str,
        embedded: Iterable[EmbeddedQuery],
        collection_ids: Sequence[str],
        limit: int,
        where: dict[str, Any],
    ) -> tuple[FoundChunk, ...]:
        """The chunks that answer best, the best first."""
        answer = await self._stub.SearchChunks(
            chunk_store_pb2.SearchChunksRequest(
                text=text,
                embedded=[to_message(query, chunk_store_pb2.SearchChunksRequest.Embedded) for query in embedded],
                collection_ids=collection_ids,
                limit=limit,
                filter=orjson.dumps(where).decode(),
            )
        )
        return tuple(from_message(chunk, FoundChunk) for chunk in answer.chunks)
