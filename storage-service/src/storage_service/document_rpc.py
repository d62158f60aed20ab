"""The RPCs of collections and documents: requests to values and back. Only whether one is valid is decided here."""

from typing import Any

from hearth.agent.v1 import document_pb2, task_pb2
from hearth.storage.v1 import document_store_pb2, document_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.documents import PART_BYTES, Collection, Document
from hearth_runtime.identifiers import is_id

from storage_service import arguments
from storage_service.collections import Collections, NewCollection
from storage_service.documents import Documents, NewDocument, document_not_found
from storage_service.task_rpc import new_task

PAGE_LIMIT = 500
CHUNK_TOKENS = range(32, 8193)


class DocumentStoreRpc(document_store_pb2_grpc.DocumentStoreServiceServicer):
    """The tables `collections`, `documents` and `document_parts`."""

    def __init__(self, collections: Collections, documents: Documents) -> None:
        self._collections = collections
        self._documents = documents

    async def InsertCollection(self, request: Any, context: Any) -> document_store_pb2.InsertCollectionResponse:
        new = arguments.value_of(request.collection, NewCollection, "collection")
        arguments.uuid(new.id, "id")
        arguments.name(new.name, "name")
        arguments.name(new.embedding_model, "embedding_model")
        if new.chunk_tokens not in CHUNK_TOKENS:
            raise arguments.invalid("chunk_tokens", f"must be {CHUNK_TOKENS.start} to {CHUNK_TOKENS.stop - 1}")
        collection = await self._collections.insert(new)
        return document_store_pb2.InsertCollectionResponse(collection=_collection(collection))

    async def GetCollection(self, request: Any, context: Any) -> document_store_pb2.GetCollectionResponse:
        collection = await self._collections.get(request.name)
        return document_store_pb2.GetCollectionResponse(collection=_collection(collection))

    async def ListCollections(self, request: Any, context: Any) -> document_store_pb2.ListCollectionsResponse:
        page = await self._collections.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token
        )
        return document_store_pb2.ListCollectionsResponse(
            collections=[_collection(item) for item in page.items], next_page_token=page.next_token
        )

    async def UpdateCollection(self, request: Any, context: Any) -> document_store_pb2.UpdateCollectionResponse:
        collection = await self._collections.update(
            request.name,
            description=request.description,
            embedding_model=arguments.name(request.embedding_model, "embedding_model"),
        )
        return document_store_pb2.UpdateCollectionResponse(collection=_collection(collection))

    async def DeleteCollection(self, request: Any, context: Any) -> document_store_pb2.DeleteCollectionResponse:
        await self._collections.delete(request.name)
        return document_store_pb2.DeleteCollectionResponse()

    async def BeginDocument(self, request: Any, context: Any) -> document_store_pb2.BeginDocumentResponse:
        new = arguments.value_of(request, NewDocument)
        arguments.uuid(new.id, "id")
        arguments.name(new.name, "name")
        arguments.name(new.media_type, "media_type")
        arguments.name(new.content_hash, "content_hash")
        arguments.json_object(new.metadata, "metadata")
        if new.size_bytes < 1:
            raise arguments.invalid("size_bytes", "must be 1 or more")
        return document_store_pb2.BeginDocumentResponse(document=_document(await self._documents.begin(new)))

    async def PutDocumentPart(self, request: Any, context: Any) -> document_store_pb2.PutDocumentPartResponse:
        if not 1 <= len(request.data) <= PART_BYTES:
            raise arguments.invalid("data", f"must have 1 to {PART_BYTES} bytes")
        if request.number < 0:
            raise arguments.invalid("number", "must be 0 or more")
        await self._documents.put_part(_document_id(request.document_id), request.number, request.data)
        return document_store_pb2.PutDocumentPartResponse()

    async def AcceptDocument(self, request: Any, context: Any) -> document_store_pb2.AcceptDocumentResponse:
        document, task, created = await self._documents.accept(_document_id(request.id), new_task(request.task))
        return document_store_pb2.AcceptDocumentResponse(
            document=_document(document), task=to_message(task, task_pb2.Task), created=created
        )

    async def GetDocument(self, request: Any, context: Any) -> document_store_pb2.GetDocumentResponse:
        document = await self._documents.get(_document_id(request.id))
        return document_store_pb2.GetDocumentResponse(document=_document(document))

    async def ListDocuments(self, request: Any, context: Any) -> document_store_pb2.ListDocumentsResponse:
        page = await self._documents.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            collection=request.collection if request.HasField("collection") else None,
        )
        return document_store_pb2.ListDocumentsResponse(
            documents=[_document(item) for item in page.items], next_page_token=page.next_token
        )

    async def DeleteDocument(self, request: Any, context: Any) -> document_store_pb2.DeleteDocumentResponse:
        await self._documents.delete(_document_id(request.id))
        return document_store_pb2.DeleteDocumentResponse()

    async def GetDocumentPart(self, request: Any, context: Any) -> document_store_pb2.GetDocumentPartResponse:
        data = await self._documents.part(_document_id(request.document_id), request.number)
        return document_store_pb2.GetDocumentPartResponse(data=data)


def _collection(collection: Collection) -> document_pb2.Collection:
    return to_message(collection, document_pb2.Collection)


def _document(document: Document) -> document_pb2.Document:
    return to_message(document, document_pb2.Document)


def _document_id(text: str) -> str:
    if not is_id(text):
        raise document_not_found(text)
    return text
