"""Messages about documents as the public contract's values. It translates and never decides."""

from datetime import UTC
from typing import cast

import orjson
from hearth.agent.v1 import document_pb2, document_service_pb2

from gateway.schemas.documents import Collection, Document, DocumentStatus, FoundChunk

STATUS_NAMES = {
    number: cast(DocumentStatus, name.removeprefix("STATUS_").lower())
    for name, number in document_pb2.Document.Status.items()
    if number
}
MODES = {
    name.removeprefix("MODE_").lower(): number
    for name, number in document_service_pb2.SearchRequest.Mode.items()
    if number
}


def collection_of(message: document_pb2.Collection) -> Collection:
    """The collection in `message`."""
    return Collection(
        name=message.name,
        description=message.description,
        embedding_model=message.embedding_model,
        next_embedding_model=message.next_embedding_model if message.HasField("next_embedding_model") else None,
        chunk_tokens=message.chunk_tokens,
        document_count=message.document_count,
        chunk_count=message.chunk_count,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        updated_at=message.updated_at.ToDatetime(tzinfo=UTC),
    )


def document_of(message: document_pb2.Document) -> Document:
    """The document in `message`."""
    return Document(
        id=message.id,
        collection=message.collection,
        name=message.name,
        media_type=message.media_type,
        size_bytes=message.size_bytes,
        content_hash=message.content_hash,
        metadata=orjson.loads(message.metadata or "{}"),
        status=STATUS_NAMES[message.status],
        task_id=message.task_id if message.HasField("task_id") else None,
        error_code=message.error_code if message.HasField("error_code") else None,
        error_message=message.error_message if message.HasField("error_message") else None,
        page_count=message.page_count if message.HasField("page_count") else None,
        character_count=message.character_count,
        chunk_count=message.chunk_count,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        ready_at=message.ready_at.ToDatetime(tzinfo=UTC) if message.HasField("ready_at") else None,
    )


def chunk_of(message: document_pb2.FoundChunk) -> FoundChunk:
    """The chunk in `message`."""
    return FoundChunk(
        document_id=message.document_id,
        document_name=message.document_name,
        collection=message.collection,
        number=message.number,
        text=message.text,
        headings=list(message.headings),
        page=message.page if message.HasField("page") else None,
        span=(message.start, message.end),
        metadata=orjson.loads(message.metadata or "{}"),
        score=message.score,
        vector_score=message.vector_score if message.HasField("vector_score") else None,
        text_score=message.text_score if message.HasField("text_score") else None,
    )
