"""AgentService and TaskService: translates between messages and values, and decides nothing."""

from datetime import UTC
from typing import Any

from hearth.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from hearth_runtime.agents import ClientTool
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.tasks import TaskStatus

from agent_service.acceptance import Tasks
from agent_service.agents import AgentDraft, Agents
from agent_service.arguments import json_object
from agent_service.attachments import Attachment, AttachmentReader
from agent_service.request_store import RequestAnswer
from agent_service.storage import StoredAgents, StoredTasks


class AgentRpc(agent_service_pb2_grpc.AgentServiceServicer):
    """hearth.agent.v1.AgentService."""

    def __init__(self, agents: Agents, stored: StoredAgents) -> None:
        self._agents = agents
        self._stored = stored

    async def CreateAgent(
        self, request: agent_service_pb2.CreateAgentRequest, context: Any
    ) -> agent_service_pb2.CreateAgentResponse:
        agent = await self._agents.create(from_message(request, AgentDraft))
        return agent_service_pb2.CreateAgentResponse(agent=to_message(agent, agent_pb2.Agent))

    async def GetAgent(
        self, request: agent_service_pb2.GetAgentRequest, context: Any
    ) -> agent_service_pb2.GetAgentResponse:
        agent = await self._stored.get(request.id)
        return agent_service_pb2.GetAgentResponse(agent=to_message(agent, agent_pb2.Agent))

    async def ListAgents(
        self, request: agent_service_pb2.ListAgentsRequest, context: Any
    ) -> agent_service_pb2.ListAgentsResponse:
        agents, token = await self._stored.page(
            size=request.page_size,
            token=request.page_token,
            is_active=request.is_active if request.HasField("is_active") else None,
            name=request.name if request.HasField("name") else None,
        )
        return agent_service_pb2.ListAgentsResponse(
            agents=[to_message(a, agent_pb2.Agent) for a in agents], next_page_token=token
        )

    async def UpdateAgent(
        self, request: agent_service_pb2.UpdateAgentRequest, context: Any
    ) -> agent_service_pb2.UpdateAgentResponse:
        draft = from_message(request, AgentDraft)
        agent = await self._agents.update(request.id, draft, is_active=request.is_active)
        return agent_service_pb2.UpdateAgentResponse(agent=to_message(agent, agent_pb2.Agent))

    async def DeleteAgent(
        self, request: agent_service_pb2.DeleteAgentRequest, context: Any
    ) -> agent_service_pb2.DeleteAgentResponse:
        await self._stored.deactivate(request.id)
        return agent_service_pb2.DeleteAgentResponse()


class TaskRpc(task_service_pb2_grpc.TaskServiceServicer):
    """hearth.agent.v1.TaskService."""

    def __init__(self, tasks: Tasks, stored: StoredTasks, attachments: AttachmentReader) -> None:
        self._tasks = tasks
        self._attachments = attachments
        self._stored = stored

    async def CreateTask(
        self, request: task_service_pb2.CreateTaskRequest, context: Any
    ) -> task_service_pb2.CreateTaskResponse:
        task_input = await self._attachments.added_to(
            json_object(request.input, "input"),
            [from_message(attachment, Attachment) for attachment in request.attachments],
            agent_id=request.agent_id,
        )
        task, created = await self._tasks.create(
            agent_id=request.agent_id,
            task_input=task_input,
            session_id=request.session_id if request.HasField("session_id") else None,
            idempotency_key=request.idempotency_key if request.HasField("idempotency_key") else None,
            user=request.user if request.HasField("user") else None,
            tools=tuple(from_message(tool, ClientTool) for tool in request.tools),
        )
        return task_service_pb2.CreateTaskResponse(task=to_message(task, task_pb2.Task), created=created)

    async def GetTask(self, request: task_service_pb2.GetTaskRequest, context: Any) -> task_service_pb2.GetTaskResponse:
        task = await self._stored.get(request.id)
        return task_service_pb2.GetTaskResponse(task=to_message(task, task_pb2.Task))

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, context: Any
    ) -> task_service_pb2.ListTasksResponse:
        after, before = request.created_after, request.created_before
        tasks, token = await self._stored.page(
            size=request.page_size,
            token=request.page_token,
            agent_id=request.agent_id if request.HasField("agent_id") else None,
            statuses=[
                TaskStatus(task_pb2.Task.Status.Name(s).removeprefix("STATUS_").lower()) for s in request.statuses
            ],
            created_after=after.ToDatetime(tzinfo=UTC) if request.HasField("created_after") else None,
            created_before=before.ToDatetime(tzinfo=UTC) if request.HasField("created_before") else None,
            parent_task_id=request.parent_task_id if request.HasField("parent_task_id") else None,
        )
        return task_service_pb2.ListTasksResponse(
            tasks=[to_message(t, task_pb2.Task) for t in tasks], next_page_token=token
        )

    async def CancelTask(
        self, request: task_service_pb2.CancelTaskRequest, context: Any
    ) -> task_service_pb2.CancelTaskResponse:
        task = await self._tasks.cancel(request.id)
        return task_service_pb2.CancelTaskResponse(task=to_message(task, task_pb2.Task))

    async def RetryTask(
        self, request: task_service_pb2.RetryTaskRequest, context: Any
    ) -> task_service_pb2.RetryTaskResponse:
        task = await self._tasks.retry(
            request.id, from_start=request.from_start, repeat_tool_calls=request.repeat_tool_calls
        )
        return task_service_pb2.RetryTaskResponse(task=to_message(task, task_pb2.Task))

    async def ResumeTask(
        self, request: task_service_pb2.ResumeTaskRequest, context: Any
    ) -> task_service_pb2.ResumeTaskResponse:
        answers = [
            RequestAnswer(id=answer.id, answer=json_object(answer.answer, f"results[{place}]"))
            for place, answer in enumerate(request.answers)
        ]
        task = await self._tasks.resume(request.id, answers)
        return task_service_pb2.ResumeTaskResponse(task=to_message(task, task_pb2.Task))

    async def ListAttempts(
        self, request: task_service_pb2.ListAttemptsRequest, context: Any
    ) -> task_service_pb2.ListAttemptsResponse:
        attempts, token = await self._stored.attempts(request.task_id, size=request.page_size, token=request.page_token)
        return task_service_pb2.ListAttemptsResponse(
            attempts=[to_message(a, task_pb2.Attempt) for a in attempts], next_page_token=token
        )
