"""The DocumentService that the gateway asks, in memory."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hearth.agent.v1 import document_pb2, document_service_pb2, document_service_pb2_grpc, task_pb2
from hearth_runtime.errors import CollectionExists, CollectionNotFound, DocumentNotFound
from hearth_runtime.identifiers import new_id


class Documents(document_service_pb2_grpc.DocumentServiceServicer):
    """`collections` and `documents`, and the `parts` of these; a search finds `found`. `state` has the tasks."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.collections: dict[str, document_pb2.Collection] = {}
        self.documents: dict[str, document_pb2.Document] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.searches: list[document_service_pb2.SearchRequest] = []
        self.found: list[document_pb2.FoundChunk] = []

    def _collection(self, name: str) -> document_pb2.Collection:
        if name not in self.collections:
            raise CollectionNotFound(f"There is no collection {name}.")
        return self.collections[name]

    def _document(self, document_id: str) -> document_pb2.Document:
        if document_id not in self.documents:
            raise DocumentNotFound(f"There is no document {document_id}.")
        return self.documents[document_id]

    async def CreateCollection(self, request: Any, context: Any) -> Any:
        await self.state.begin("CreateCollection", context)
        if request.name in self.collections:
            raise CollectionExists(f"There is a collection {request.name} already.")
        self.collections[request.name] = document_pb2.Collection(
            id=new_id(),
            name=request.name,
            description=request.description,
            embedding_model=request.embedding_model or "m",
            chunk_tokens=request.chunk_tokens or 256,
            created_at=_now(),
            updated_at=_now(),
        )
        return document_service_pb2.CreateCollectionResponse(collection=self.collections[request.name])

    async def GetCollection(self, request: Any, context: Any) -> Any:
        return document_service_pb2.GetCollectionResponse(collection=self._collection(request.name))

    async def ListCollections(self, request: Any, context: Any) -> Any:
        return document_service_pb2.ListCollectionsResponse(collections=self.collections.values())

    async def UpdateCollection(self, request: Any, context: Any) -> Any:
        collection = self._collection(request.name)
        collection.description = request.description
        if request.embedding_model == collection.embedding_model:
            return document_service_pb2.UpdateCollectionResponse(collection=collection)
        collection.next_embedding_model = request.embedding_model
        task = await self.state.add_task(status=task_pb2.Task.STATUS_PENDING)
        return document_service_pb2.UpdateCollectionResponse(collection=collection, task=task)

    async def DeleteCollection(self, request: Any, context: Any) -> Any:
        self._collection(request.name)
        del self.collections[request.name]
        return document_service_pb2.DeleteCollectionResponse()

    async def BeginDocument(self, request: Any, context: Any) -> Any:
        await self.state.begin("BeginDocument", context)
        if request.collection != "default":
            self._collection(request.collection)
        for document in self.documents.values():
            if (document.collection, document.content_hash) == (request.collection, request.content_hash):
                return document_service_pb2.BeginDocumentResponse(document=document)
        document = document_pb2.Document(
            id=new_id(),
            collection=request.collection,
            name=request.name,
            media_type=request.media_type,
            size_bytes=request.size_bytes,
            content_hash=request.content_hash,
            metadata=request.metadata,
            status=document_pb2.Document.STATUS_UPLOADING,
            created_at=_now(),
        )
        self.documents[document.id] = document
        self.parts[document.id] = {}
        return document_service_pb2.BeginDocumentResponse(document=document)

    async def PutDocumentPart(self, request: Any, context: Any) -> Any:
        await self.state.begin("PutDocumentPart", context)
        self.parts[request.document_id][request.number] = request.data
        return document_service_pb2.PutDocumentPartResponse()

    async def AcceptDocument(self, request: Any, context: Any) -> Any:
        document = self._document(request.id)
        if not document.HasField("task_id"):
            document.status = document_pb2.Document.STATUS_PENDING
            document.task_id = (await self.state.add_task(status=task_pb2.Task.STATUS_PENDING)).id
        return document_service_pb2.AcceptDocumentResponse(document=document, task=self.state.tasks[document.task_id])

    async def GetDocument(self, request: Any, context: Any) -> Any:
        return document_service_pb2.GetDocumentResponse(document=self._document(request.id))

    async def ListDocuments(self, request: Any, context: Any) -> Any:
        documents = [
            document
            for document in reversed(self.documents.values())
            if not request.HasField("collection") or document.collection == request.collection
        ]
        return document_service_pb2.ListDocumentsResponse(documents=documents)

    async def DeleteDocument(self, request: Any, context: Any) -> Any:
        self._document(request.id)
        del self.documents[request.id]
        return document_service_pb2.DeleteDocumentResponse()

    async def GetDocumentPart(self, request: Any, context: Any) -> Any:
        self._document(request.document_id)
        return document_service_pb2.GetDocumentPartResponse(data=self.parts[request.document_id].get(request.number))

    async def GetDocumentText(self, request: Any, context: Any) -> Any:
        part = self.parts[request.document_id].get(request.number)
        return document_service_pb2.GetDocumentTextResponse(text=None if part is None else part.decode().upper())

    async def Search(self, request: Any, context: Any) -> Any:
        await self.state.begin("Search", context)
        for name in request.collections:
            self._collection(name)
        self.searches.append(request)
        return document_service_pb2.SearchResponse(chunks=self.found)


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
