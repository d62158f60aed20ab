"""The process `api`: agents and tasks over gRPC, and the dispatcher."""

import asyncio
from contextlib import AsyncExitStack

from hearth.agent.v1 import (
    agent_service_pb2,
    agent_service_pb2_grpc,
    document_service_pb2,
    document_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    key_service_pb2,
    key_service_pb2_grpc,
    memory_service_pb2,
    memory_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
    tool_service_pb2,
    tool_service_pb2_grpc,
)
from hearth_runtime.channels import open_channel
from hearth_runtime.lifecycle import run, run_with
from hearth_runtime.redis_streams import connect, redis_dependency
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings

from agent_service.acceptance import Tasks
from agent_service.agent_tools import AgentTools
from agent_service.agents import Agents
from agent_service.attachments import AttachmentReader
from agent_service.bell import Bell, broker_of
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.dispatcher import Dispatcher, workers_dependency
from agent_service.document_rpc import DocumentRpc
from agent_service.document_store import StoredChunks, StoredDocuments
from agent_service.documents import Documents, Searcher
from agent_service.history_rpc import HistoryRpc
from agent_service.history_store import StoredHistories
from agent_service.inference import Models
from agent_service.key_rpc import KeyRpc
from agent_service.key_store import StoredKeys
from agent_service.keys import Keys
from agent_service.memories import Memories
from agent_service.memory_rpc import MemoryRpc
from agent_service.memory_store import StoredMemories
from agent_service.outbox import Outbox
from agent_service.publisher import EventPublisher
from agent_service.request_store import StoredRequests
from agent_service.rpc import AgentRpc, TaskRpc
from agent_service.secret_rotation import SecretRotation
from agent_service.session_rpc import SessionRpc
from agent_service.session_store import StoredSessions
from agent_service.settings import ApiSettings
from agent_service.storage import StoredAgents, StoredTasks
from agent_service.time_travel import TimeTravel
from agent_service.tool import ToolHost
from agent_service.tool_kinds import ToolKinds
from agent_service.tool_rpc import ToolRpc
from agent_service.tool_store import StoredTools
from agent_service.tool_trials import ToolTrials


async def serve(settings: ApiSettings, stopping: asyncio.Event) -> None:
    """Runs the process until `stopping` is set."""
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel("storage", settings.storage_address, settings))
        inference = await stack.enter_async_context(open_channel("inference", settings.inference_address, settings))
        redis = await stack.enter_async_context(connect(settings.redis_url))
        broker = broker_of(settings)
        stack.push_async_callback(broker.stop)
        await broker.connect()

        bell = Bell(broker, redis)
        publisher = EventPublisher(redis, limit=settings.event_buffer)
        stored_agents, stored_tasks = StoredAgents(channel), StoredTasks(channel)
        dispatcher = Dispatcher(stored_tasks, bell, settings)
        tasks = Tasks(stored_tasks, StoredRequests(channel), bell, publisher)
        stored_documents, stored_chunks = StoredDocuments(channel), StoredChunks(channel)
        outbox = Outbox(stored_tasks, publisher, settings)
        attachments = AttachmentReader(
            stored_agents, Models(inference), settings, concurrency=settings.attachments_concurrency
        )
        kinds, keys = ToolKinds(), settings.secret_keys
        stored_tools = StoredTools(channel, keys)
        host = ToolHost(settings=settings, storage=channel, inference=inference)

        server = Server(
            settings, dependencies=[redis_dependency(redis, required=False), workers_dependency(bell, dispatcher)]
        )
        server.register(
            agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
            AgentRpc(Agents(stored_agents, queues=settings.queue_names), stored_agents),
            agent_service_pb2,
        )
        server.register(
            task_service_pb2_grpc.add_TaskServiceServicer_to_server,
            TaskRpc(tasks, stored_tasks, attachments),
            task_service_pb2,
        )
        server.register(
            session_service_pb2_grpc.add_SessionServiceServicer_to_server,
            SessionRpc(StoredSessions(channel)),
            session_service_pb2,
        )
        stored_memories = StoredMemories(channel)
        memories = Memories(stored_memories, Models(inference), embedding_model=settings.embedding_model)
        server.register(
            memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
            MemoryRpc(memories, stored_memories),
            memory_service_pb2,
        )
        server.register(
            document_service_pb2_grpc.add_DocumentServiceServicer_to_server,
            DocumentRpc(
                Documents(stored_documents, tasks, embedding_model=settings.embedding_model),
                Searcher(stored_documents, stored_chunks, Models(inference)),
                stored_documents,
                stored_chunks,
            ),
            document_service_pb2,
        )
        server.register(
            tool_service_pb2_grpc.add_ToolServiceServicer_to_server,
            ToolRpc(
                AgentTools(stored_tools, kinds, keys),
                stored_tools,
                kinds,
                ToolTrials(stored_agents, stored_tools, kinds, keys, host),
                SecretRotation(stored_tools, keys),
            ),
            tool_service_pb2,
        )
        server.register(
            history_service_pb2_grpc.add_HistoryServiceServicer_to_server,
            HistoryRpc(TimeTravel(StoredHistories(channel), StoredCheckpoints(channel), stored_tasks, bell)),
            history_service_pb2,
        )
        stored_keys = StoredKeys(channel)
        server.register(
            key_service_pb2_grpc.add_KeyServiceServicer_to_server,
            KeyRpc(Keys(stored_keys), stored_keys),
            key_service_pb2,
        )
        await run_with(
            publisher.drained_after(server.run(stopping)),
            publisher.run(),
            dispatcher.run(stopping),
            outbox.run(stopping),
        )


def main() -> None:
    """Runs the process."""
    settings = load_settings(ApiSettings)
    run("agent", settings, lambda stopping: serve(settings, stopping))
