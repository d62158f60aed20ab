"""The RPCs of texts, chunks and search: requests to values and back. Only whether a request is valid is decided."""

from typing import Any

from hearth.agent.v1 import document_pb2
from hearth.storage.v1 import chunk_store_pb2, chunk_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.documents import PART_CHARACTERS, Chunk

from storage_service import arguments
from storage_service.chunks import Chunks, ChunkVector
from storage_service.collections import Collections
from storage_service.documents import Documents
from storage_service.search import Search, Searches

BATCH_LIMIT = 500
SEARCH_LIMIT = 100
COLLECTIONS_LIMIT = 100
DIMENSIONS_LIMIT = 16_000


class ChunkStoreRpc(chunk_store_pb2_grpc.ChunkStoreServiceServicer):
    """The tables `document_texts`, `chunks` and `chunk_vectors`."""

    def __init__(self, documents: Documents, chunks: Chunks, collections: Collections, searches: Searches) -> None:
        self._documents = documents
        self._chunks = chunks
        self._collections = collections
        self._searches = searches

    async def PutDocumentText(self, request: Any, context: Any) -> chunk_store_pb2.PutDocumentTextResponse:
        if not 1 <= len(request.text) <= PART_CHARACTERS:
            raise arguments.invalid("text", f"must have 1 to {PART_CHARACTERS} characters")
        await self._documents.put_text(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            document_id=arguments.uuid(request.document_id, "document_id"),
            number=request.number,
            text=request.text,
        )
        return chunk_store_pb2.PutDocumentTextResponse()

    async def GetDocumentText(self, request: Any, context: Any) -> chunk_store_pb2.GetDocumentTextResponse:
        text = await self._documents.text(arguments.uuid(request.document_id, "document_id"), request.number)
        return chunk_store_pb2.GetDocumentTextResponse(text=text)

    async def PutChunks(self, request: Any, context: Any) -> chunk_store_pb2.PutChunksResponse:
        _bounded(request.chunks, "chunks")
        await self._chunks.put(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            document_id=arguments.uuid(request.document_id, "document_id"),
            chunks=[arguments.value_of(chunk, Chunk, f"chunks[{n}]") for n, chunk in enumerate(request.chunks)],
        )
        return chunk_store_pb2.PutChunksResponse()

    async def RecordText(self, request: Any, context: Any) -> chunk_store_pb2.RecordTextResponse:
        await self._documents.record_text(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            document_id=arguments.uuid(request.document_id, "document_id"),
            page_count=request.page_count if request.HasField("page_count") else None,
            character_count=request.character_count,
            chunk_count=request.chunk_count,
        )
        return chunk_store_pb2.RecordTextResponse()

    async def ListUnembedded(self, request: Any, context: Any) -> chunk_store_pb2.ListUnembeddedResponse:
        within = request.WhichOneof("within")
        if within is None:
            raise arguments.invalid("within", "must be a document_id or a collection_id")
        if not 1 <= request.limit <= BATCH_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {BATCH_LIMIT}")
        place = arguments.uuid(getattr(request, within), within)
        chunks, missing, total = await self._chunks.unembedded(
            document_id=place if within == "document_id" else None,
            collection_id=place if within == "collection_id" else None,
            model=arguments.name(request.model, "model"),
            limit=request.limit,
            after_id=request.after_id if request.HasField("after_id") else None,
        )
        return chunk_store_pb2.ListUnembeddedResponse(
            chunks=[to_message(chunk, chunk_store_pb2.ListUnembeddedResponse.Chunk) for chunk in chunks],
            missing_count=missing,
            total_count=total,
        )

    async def PutVectors(self, request: Any, context: Any) -> chunk_store_pb2.PutVectorsResponse:
        _bounded(request.vectors, "vectors")
        for n, vector in enumerate(request.vectors):
            _dimensions(vector.values, f"vectors[{n}].values")
        await self._chunks.put_vectors(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            model=arguments.name(request.model, "model"),
            vectors=[arguments.value_of(vector, ChunkVector) for vector in request.vectors],
        )
        return chunk_store_pb2.PutVectorsResponse()

    async def PublishDocument(self, request: Any, context: Any) -> chunk_store_pb2.PublishDocumentResponse:
        missing = await self._documents.publish(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            document_id=arguments.uuid(request.document_id, "document_id"),
        )
        return chunk_store_pb2.PublishDocumentResponse(missing_model=missing)

    async def SwitchModel(self, request: Any, context: Any) -> chunk_store_pb2.SwitchModelResponse:
        outcome, has_others = await self._collections.switch(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            collection_id=arguments.uuid(request.collection_id, "collection_id"),
            model=arguments.name(request.model, "model"),
        )
        return chunk_store_pb2.SwitchModelResponse(
            outcome=chunk_store_pb2.SwitchModelResponse.Outcome.Value(f"OUTCOME_{outcome.name}"),
            has_others=has_others,
        )

    async def SearchChunks(self, request: Any, context: Any) -> chunk_store_pb2.SearchChunksResponse:
        search = arguments.value_of(request, Search)
        arguments.json_object(search.filter, "filter")
        arguments.uuids(search.collection_ids, "collection_ids")
        if not 1 <= len(search.collection_ids) <= COLLECTIONS_LIMIT:
            raise arguments.invalid("collection_ids", f"must be 1 to {COLLECTIONS_LIMIT}")
        if not 1 <= search.limit <= SEARCH_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {SEARCH_LIMIT}")
        for n, query in enumerate(search.embedded):
            arguments.uuids(query.collection_ids, f"embedded[{n}].collection_ids")
            _dimensions(query.values, f"embedded[{n}].values")
        found = await self._searches.find(search)
        return chunk_store_pb2.SearchChunksResponse(
            chunks=[to_message(chunk, document_pb2.FoundChunk) for chunk in found]
        )


def _bounded(items: Any, field: str) -> None:
    if not 1 <= len(items) <= BATCH_LIMIT:
        raise arguments.invalid(field, f"must be 1 to {BATCH_LIMIT}")


def _dimensions(values: Any, field: str) -> None:
    if not 1 <= len(values) <= DIMENSIONS_LIMIT:
        raise arguments.invalid(field, f"must be 1 to {DIMENSIONS_LIMIT} numbers")
