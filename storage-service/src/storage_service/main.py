"""storage-service: what it is made of, and how it starts and ends."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from hearth.storage.v1 import (
    agent_store_pb2,
    agent_store_pb2_grpc,
    checkpoint_store_pb2,
    checkpoint_store_pb2_grpc,
    chunk_store_pb2,
    chunk_store_pb2_grpc,
    document_store_pb2,
    document_store_pb2_grpc,
    event_store_pb2,
    event_store_pb2_grpc,
    history_store_pb2,
    history_store_pb2_grpc,
    key_store_pb2,
    key_store_pb2_grpc,
    memory_store_pb2,
    memory_store_pb2_grpc,
    request_store_pb2,
    request_store_pb2_grpc,
    session_store_pb2,
    session_store_pb2_grpc,
    task_store_pb2,
    task_store_pb2_grpc,
    tool_store_pb2,
    tool_store_pb2_grpc,
)
from hearth_runtime.lifecycle import run, run_with
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings

from storage_service.agent_tools import AgentTools
from storage_service.agents import Agents
from storage_service.attempts import Attempts
from storage_service.checkpoint_rpc import CheckpointStoreRpc
from storage_service.checkpoints import Checkpoints
from storage_service.chunk_rpc import ChunkStoreRpc
from storage_service.chunks import Chunks
from storage_service.collections import Collections
from storage_service.database import Database, open_database, postgresql_dependency
from storage_service.document_rpc import DocumentStoreRpc
from storage_service.documents import Documents
from storage_service.events import Events
from storage_service.histories import Histories, keep_bounded
from storage_service.history_rpc import HistoryStoreRpc
from storage_service.key_rpc import KeyStoreRpc
from storage_service.keys import Actions, Keys, Tickets
from storage_service.memories import Memories
from storage_service.memory_rpc import MemoryStoreRpc
from storage_service.memory_vectors import MemoryVectors
from storage_service.metrics import keep_current
from storage_service.queue import Queue
from storage_service.queue_bounds import QueueBounds
from storage_service.request_rpc import RequestStoreRpc
from storage_service.requests import Requests
from storage_service.retention import Retention
from storage_service.rpc import AgentStoreRpc, EventStoreRpc
from storage_service.search import Searches
from storage_service.session_rpc import SessionStoreRpc
from storage_service.sessions import Sessions
from storage_service.settings import StorageSettings
from storage_service.subscriptions import Subscriptions
from storage_service.task_rpc import TaskStoreRpc
from storage_service.tasks import Tasks
from storage_service.tool_calls import ToolCalls
from storage_service.tool_rpc import ToolStoreRpc
from storage_service.vector_indexes import VectorIndexes


def main() -> None:
    """Runs the service until SIGTERM."""
    settings = load_settings(StorageSettings)
    if settings.otlp_endpoint is not None:
        from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

        AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]
    run("storage", settings, lambda stopping: serve(settings, stopping))


async def serve(settings: StorageSettings, stopping: asyncio.Event) -> None:
    """Serves until `stopping` is set, whether PostgreSQL is there or not."""
    if settings.otlp_endpoint is not None:
        from storage_service.statement_spans import name_statements

        name_statements()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        queue = Queue(database)
        attempts = Attempts(database)
        bounds = QueueBounds(database, in_all=settings.queue_limit, per_agent=settings.queue_limit_per_agent)
        tasks = Tasks(database, bounds)
        histories = Histories(database, tasks, bounds)
        collections = Collections(database, attempts)
        documents = Documents(database, tasks, attempts)
        indexes = VectorIndexes(settings)
        server = Server(settings, dependencies=[postgresql_dependency(database)])
        server.register(
            agent_store_pb2_grpc.add_AgentStoreServiceServicer_to_server,
            AgentStoreRpc(Agents(database)),
            agent_store_pb2,
        )
        server.register(
            task_store_pb2_grpc.add_TaskStoreServiceServicer_to_server,
            TaskStoreRpc(tasks, attempts, queue),
            task_store_pb2,
        )
        server.register(
            request_store_pb2_grpc.add_RequestStoreServiceServicer_to_server,
            RequestStoreRpc(
                Requests(
                    database,
                    attempts,
                    depth_limit=settings.task_depth_limit,
                    sub_task_limit=settings.sub_task_limit,
                )
            ),
            request_store_pb2,
        )
        server.register(
            event_store_pb2_grpc.add_EventStoreServiceServicer_to_server,
            EventStoreRpc(Events(database), Subscriptions(database)),
            event_store_pb2,
        )
        server.register(
            checkpoint_store_pb2_grpc.add_CheckpointStoreServiceServicer_to_server,
            CheckpointStoreRpc(Checkpoints(database, attempts), ToolCalls(database, attempts)),
            checkpoint_store_pb2,
        )
        server.register(
            document_store_pb2_grpc.add_DocumentStoreServiceServicer_to_server,
            DocumentStoreRpc(collections, documents),
            document_store_pb2,
        )
        server.register(
            chunk_store_pb2_grpc.add_ChunkStoreServiceServicer_to_server,
            ChunkStoreRpc(
                documents, Chunks(database, documents, attempts, indexes), collections, Searches(database, indexes)
            ),
            chunk_store_pb2,
        )
        server.register(
            session_store_pb2_grpc.add_SessionStoreServiceServicer_to_server,
            SessionStoreRpc(Sessions(database)),
            session_store_pb2,
        )
        vectors = MemoryVectors(database, indexes)
        memories = Memories(
            database,
            vectors,
            limit=settings.memory_limit,
            duplicate_similarity=settings.memory_duplicate_similarity,
        )
        server.register(
            memory_store_pb2_grpc.add_MemoryStoreServiceServicer_to_server,
            MemoryStoreRpc(memories, vectors),
            memory_store_pb2,
        )
        server.register(
            tool_store_pb2_grpc.add_ToolStoreServiceServicer_to_server,
            ToolStoreRpc(AgentTools(database)),
            tool_store_pb2,
        )
        server.register(
            history_store_pb2_grpc.add_HistoryStoreServiceServicer_to_server,
            HistoryStoreRpc(histories),
            history_store_pb2,
        )
        server.register(
            key_store_pb2_grpc.add_KeyStoreServiceServicer_to_server,
            KeyStoreRpc(
                Keys(database),
                Tickets(database),
                Actions(database, keep=timedelta(days=settings.audit_retention_days)),
            ),
            key_store_pb2,
        )
        await run_with(
            server.run(stopping),
            *_retention(database, settings, stopping),
            keep_bounded(
                histories,
                retention=timedelta(days=settings.checkpoint_retention_days),
                every_seconds=settings.checkpoint_retention_sweep_seconds,
                stopping=stopping,
            ),
            keep_current(queue, settings.database_metrics_seconds, stopping),
            indexes.run(stopping),
        )


def _retention(
    database: Database, settings: StorageSettings, stopping: asyncio.Event
) -> tuple[Coroutine[Any, Any, None], ...]:
    if settings.retention_days is None:
        return ()
    retention = Retention(database, timedelta(days=settings.retention_days))
    return (retention.run(settings.retention_sweep_seconds, stopping),)
