"""What the process `api` does with documents, and runs of what reads them, with an embedder of the tests' own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent_service.acceptance import Tasks
from agent_service.bell import Bell, broker_of
from agent_service.document_store import StoredChunks, StoredDocuments
from agent_service.documents import Documents, Query, Searcher, SearchMode
from agent_service.inference import Models
from agent_service.ingest import IngestWorkflow
from agent_service.publisher import EventPublisher
from agent_service.settings import ApiSettings
from fakes.embedder import FakeEmbedder, embedder_on_a_socket
from hearth_runtime.documents import Document, DocumentStatus, FoundChunk
from hearth_runtime.tasks import DOCUMENTS, Task
from redis.asyncio import Redis

from servers.agent_bench import Bench

HANDBOOK = b"""# Handbook

## Holidays
Everybody has thirty days of holiday a year.

## Travel
A train ticket is booked by the office.

### Hotels
A hotel costs at most one hundred euros a night.
"""


@dataclass
class Desk:
    """Uploads documents and runs what reads them."""

    bench: Bench
    embedder: FakeEmbedder
    documents: Documents
    searcher: Searcher
    stored: StoredDocuments
    chunks: StoredChunks

    async def begin(self, data: bytes, *, collection: str, name: str = "a.md", **metadata: Any) -> Document:
        return await self.documents.begin(
            collection=collection,
            name=name,
            media_type="application/octet-stream",
            size_bytes=len(data),
            content_hash=hashlib.sha256(data).hexdigest(),
            metadata=metadata,
        )

    async def upload(
        self, data: bytes, *, collection: str, name: str = "a.md", **metadata: Any
    ) -> tuple[Document, Task]:
        document = await self.begin(data, collection=collection, name=name, **metadata)
        if document.status is DocumentStatus.UPLOADING:
            await self.stored.put_part(document.id, 0, data)
        return await self.documents.accept(document.id)

    async def run(self, task_id: str) -> Task:
        """Runs an attempt to its end."""
        _, running = await self.bench.run_task(task_id, IngestWorkflow(), queue=DOCUMENTS)
        async with asyncio.timeout(30):
            await running
        return await self.bench.stored.get(task_id)

    async def search(self, text: str, *, collection: str, mode: SearchMode = SearchMode.HYBRID) -> list[FoundChunk]:
        query = Query(text=text, collections=(collection,), limit=5, where={}, mode=mode)
        return list(await self.searcher.search(query))


@asynccontextmanager
async def desk_at(bench: Bench, redis: Redis, redis_url: str) -> AsyncIterator[Desk]:
    """A desk whose documents are read on the bench."""
    settings = ApiSettings(redis_url=redis_url)
    broker = broker_of(settings)
    await broker.connect()
    channel = bench.storage.channel
    stored, chunks = StoredDocuments(channel), StoredChunks(channel)
    async with embedder_on_a_socket() as (embedder, inference):
        bench.inference = inference
        tasks = Tasks(bench.stored, bench.requests, Bell(broker, redis), EventPublisher(redis, limit=100))
        documents = Documents(stored, tasks, embedding_model="m")
        yield Desk(bench, embedder, documents, Searcher(stored, chunks, Models(inference)), stored, chunks)
    await broker.stop()
