"""Collections and documents: taking them in, embedding them anew, and searching them."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from hearth_runtime.agents import DOCUMENTS_AGENT_ID
from hearth_runtime.documents import Collection, Document, FoundChunk
from hearth_runtime.errors import (
    CollectionExists,
    CollectionNotFound,
    TaskFinished,
)
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Task
from hearth_runtime.telemetry import current_traceparent
from loguru import logger

from agent_service.acceptance import Tasks
from agent_service.document_store import EmbeddedQuery, NewCollection, NewDocument, StoredChunks, StoredDocuments
from agent_service.embedding import query_text
from agent_service.inference import Models
from agent_service.tasks import NewTask

DEFAULT_COLLECTION = "default"
# Well within the 512 tokens that many embedding models take, the place of the chunk before it included.
DEFAULT_CHUNK_TOKENS = 256
COLLECTIONS_LIMIT = 100
EMBED_SECONDS = 20.0


class SearchMode(StrEnum):
    """How chunks are found."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for: in these collections, or all; in documents whose metadata contain `where`."""

    text: str
    collections: tuple[str, ...]
    limit: int
    where: dict[str, Any]
    mode: SearchMode = SearchMode.HYBRID


class Searcher:
    """Searches documents."""

    def __init__(self, stored: StoredDocuments, chunks: StoredChunks, models: Models) -> None:
        self._stored = stored
        self._chunks = chunks
        self._models = models

    async def search(self, query: Query) -> tuple[FoundChunk, ...]:
        """The chunks that answer best, the best first. Raises CollectionNotFound, and what embedding raises."""
        if query.collections:
            collections = [await self._stored.collection(name) for name in dict.fromkeys(query.collections)]
        else:
            found, _ = await self._stored.collections(size=COLLECTIONS_LIMIT, token="")
            collections = list(found)
        if not collections:
            return ()
        return await self._chunks.search(
            text="" if query.mode is SearchMode.VECTOR else query.text,
            embedded=[] if query.mode is SearchMode.TEXT else await self._embedded(query.text, collections),
            collection_ids=[collection.id for collection in collections],
            limit=query.limit,
            where=query.where,
        )

    async def _embedded(self, text: str, collections: Sequence[Collection]) -> list[EmbeddedQuery]:
        by_model: defaultdict[str, list[str]] = defaultdict(list)
        for collection in collections:
            by_model[collection.embedding_model].append(collection.id)
        queries = []
        for model, ids in by_model.items():
            (values,) = await self._models.embed(
                [query_text(model, text)], model=model, fair_key="search", timeout_seconds=EMBED_SECONDS
            )
            queries.append(EmbeddedQuery(model=model, values=tuple(values), collection_ids=tuple(ids)))
        return queries


class Documents:
    """Takes documents in, and what they are collected in."""

    def __init__(self, stored: StoredDocuments, tasks: Tasks, *, embedding_model: str) -> None:
        self._stored = stored
        self._tasks = tasks
        self._embedding_model = embedding_model

    async def create_collection(
        self, *, name: str, description: str, embedding_model: str | None, chunk_tokens: int | None
    ) -> Collection:
        """Makes a collection. Raises CollectionExists."""
        return await self._stored.insert_collection(
            NewCollection(
                id=new_id(),
                name=name,
                description=description,
                embedding_model=embedding_model or self._embedding_model,
                chunk_tokens=chunk_tokens or DEFAULT_CHUNK_TOKENS,
            )
        )

    async def update_collection(
        self, name: str, *, description: str, embedding_model: str
    ) -> tuple[Collection, Task | None]:
        """Sets the description. Where the model is another one, a task embeds all with it.

        Raises CollectionNotFound, QueueFull.
        """
        collection = await self._stored.update_collection(
            name, description=description, embedding_model=embedding_model
        )
        if collection.next_embedding_model is None:
            return collection, None
        task_input = {"collection_id": collection.id, "embedding_model": collection.next_embedding_model}
        # What was changed at this time is done once, however often it is asked for.
        key = f"hearth:collection:{collection.id}:{collection.updated_at.isoformat()}"
        task = await self._tasks.start(_new_task(task_input, key=key))
        return collection, task

    async def begin(
        self,
        *,
        collection: str,
        name: str,
        media_type: str,
        size_bytes: int,
        content_hash: str,
        metadata: dict[str, Any],
    ) -> Document:
        """The document with this content, uploading where it is new. Raises CollectionNotFound."""
        new = NewDocument(
            id=new_id(),
            collection=collection,
            name=name,
            media_type=media_type,
            size_bytes=size_bytes,
            content_hash=content_hash,
            metadata=metadata,
        )
        try:
            return await self._stored.begin(new)
        except CollectionNotFound:
            if collection != DEFAULT_COLLECTION:
                raise
        try:
            await self.create_collection(
                name=collection, description="Where documents go by default.", embedding_model=None, chunk_tokens=None
            )
        except CollectionExists:
            logger.debug("another upload made the default collection")
        return await self._stored.begin(new)

    async def accept(self, document_id: str) -> tuple[Document, Task]:
        """The document and the task that reads it. Starts that again where it had failed or was cancelled.

        Raises DocumentNotFound, DocumentIncomplete, QueueFull.
        """
        new = _new_task({"document_id": document_id}, key=f"hearth:document:{document_id}")
        document, task, created = await self._stored.accept(document_id, new)
        seen_to = await self._tasks.see_to(task, created=created)
        if seen_to.status is not task.status:
            document = await self._stored.get(document_id)
        return document, seen_to

    async def delete(self, document_id: str) -> None:
        """Cancels the task that reads the document, and deletes all of it. Raises DocumentNotFound."""
        document = await self._stored.get(document_id)
        if document.task_id is not None:
            try:
                await self._tasks.cancel(document.task_id)
            except TaskFinished:
                logger.debug("the document was read already", document_id=document_id)
        await self._stored.delete(document_id)


def _new_task(task_input: dict[str, Any], *, key: str | None) -> NewTask:
    digest = hashlib.sha256(orjson.dumps(task_input, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return NewTask(
        id=new_id(),
        agent_id=DOCUMENTS_AGENT_ID,
        input=task_input,
        session_id=None,
        idempotency_key=key,
        request_hash=digest,
        traceparent=current_traceparent(),
    )
