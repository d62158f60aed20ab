"""DocumentService: translates between messages and values, and decides nothing."""

from typing import Any

from hearth.agent.v1 import document_pb2, document_service_pb2, document_service_pb2_grpc, task_pb2
from hearth_runtime.codec import to_message

from agent_service.arguments import json_object
from agent_service.document_store import StoredChunks, StoredDocuments
from agent_service.documents import Documents, Query, Searcher, SearchMode

_MODES = {
    document_service_pb2.SearchRequest.MODE_UNSPECIFIED: SearchMode.HYBRID,
    document_service_pb2.SearchRequest.MODE_HYBRID: SearchMode.HYBRID,
    document_service_pb2.SearchRequest.MODE_VECTOR: SearchMode.VECTOR,
    document_service_pb2.SearchRequest.MODE_TEXT: SearchMode.TEXT,
}


class DocumentRpc(document_service_pb2_grpc.DocumentServiceServicer):
    """hearth.agent.v1.DocumentService."""

    def __init__(self, documents: Documents, searcher: Searcher, stored: StoredDocuments, chunks: StoredChunks) -> None:
        self._documents = documents
        self._searcher = searcher
        self._stored = stored
        self._chunks = chunks

    async def CreateCollection(self, request: Any, context: Any) -> document_service_pb2.CreateCollectionResponse:
        collection = await self._documents.create_collection(
            name=request.name,
            description=request.description,
            embedding_model=request.embedding_model if request.HasField("embedding_model") else None,
            chunk_tokens=request.chunk_tokens if request.HasField("chunk_tokens") else None,
        )
        return document_service_pb2.CreateCollectionResponse(collection=to_message(collection, document_pb2.Collection))

    async def GetCollection(self, request: Any, context: Any) -> document_service_pb2.GetCollectionResponse:
        collection = await self._stored.collection(request.name)
        return document_service_pb2.GetCollectionResponse(collection=to_message(collection, document_pb2.Collection))

    async def ListCollections(self, request: Any, context: Any) -> document_service_pb2.ListCollectionsResponse:
        collections, token = await self._stored.collections(size=request.page_size, token=request.page_token)
        return document_service_pb2.ListCollectionsResponse(
            collections=[to_message(c, document_pb2.Collection) for c in collections], next_page_token=token
        )

    async def UpdateCollection(self, request: Any, context: Any) -> document_service_pb2.UpdateCollectionResponse:
        collection, task = await self._documents.update_collection(
            request.name, description=request.description, embedding_model=request.embedding_model
        )
        return document_service_pb2.UpdateCollectionResponse(
            collection=to_message(collection, document_pb2.Collection),
            task=None if task is None else to_message(task, task_pb2.Task),
        )

    async def DeleteCollection(self, request: Any, context: Any) -> document_service_pb2.DeleteCollectionResponse:
        await self._stored.delete_collection(request.name)
        return document_service_pb2.DeleteCollectionResponse()

    async def BeginDocument(self, request: Any, context: Any) -> document_service_pb2.BeginDocumentResponse:
        document = await self._documents.begin(
            collection=request.collection,
            name=request.name,
            media_type=request.media_type,
            size_bytes=request.size_bytes,
            content_hash=request.content_hash,
            metadata=json_object(request.metadata or "{}", "metadata"),
        )
        return document_service_pb2.BeginDocumentResponse(document=to_message(document, document_pb2.Document))

    async def PutDocumentPart(self, request: Any, context: Any) -> document_service_pb2.PutDocumentPartResponse:
        await self._stored.put_part(request.document_id, request.number, request.data)
        return document_service_pb2.PutDocumentPartResponse()

    async def AcceptDocument(self, request: Any, context: Any) -> document_service_pb2.AcceptDocumentResponse:
        document, task = await self._documents.accept(request.id)
        return document_service_pb2.AcceptDocumentResponse(
            document=to_message(document, document_pb2.Document), task=to_message(task, task_pb2.Task)
        )

    async def GetDocument(self, request: Any, context: Any) -> document_service_pb2.GetDocumentResponse:
        document = await self._stored.get(request.id)
        return document_service_pb2.GetDocumentResponse(document=to_message(document, document_pb2.Document))

    async def ListDocuments(self, request: Any, context: Any) -> document_service_pb2.ListDocumentsResponse:
        documents, token = await self._stored.page(
            size=request.page_size,
            token=request.page_token,
            collection=request.collection if request.HasField("collection") else None,
        )
        return document_service_pb2.ListDocumentsResponse(
            documents=[to_message(d, document_pb2.Document) for d in documents], next_page_token=token
        )

    async def DeleteDocument(self, request: Any, context: Any) -> document_service_pb2.DeleteDocumentResponse:
        await self._documents.delete(request.id)
        return document_service_pb2.DeleteDocumentResponse()

    async def GetDocumentPart(self, request: Any, context: Any) -> document_service_pb2.GetDocumentPartResponse:
        data = await self._stored.part(request.document_id, request.number)
        return document_service_pb2.GetDocumentPartResponse(data=data)

    async def GetDocumentText(self, request: Any, context: Any) -> document_service_pb2.GetDocumentTextResponse:
        text = await self._chunks.text(request.document_id, request.number)
        return document_service_pb2.GetDocumentTextResponse(text=text)

    async def Search(self, request: Any, context: Any) -> document_service_pb2.SearchResponse:
        found = await self._searcher.search(
            Query(
                text=request.query,
                collections=tuple(request.collections),
                limit=request.limit,
                where=json_object(request.filter, "filter"),
                mode=_MODES[request.mode],
            )
        )
        return document_service_pb2.SearchResponse(
            chunks=[to_message(chunk, document_pb2.FoundChunk) for chunk in found]
        )
