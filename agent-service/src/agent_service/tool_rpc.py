"""ToolService: translates between messages and values, and decides nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from google.protobuf.message import Message
from hearth.agent.v1 import tool_service_pb2, tool_service_pb2_grpc
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.codec import from_message, to_message

from agent_service.agent_tools import AgentTools, ToolDraft
from agent_service.arguments import json_object, no_object
from agent_service.secret_rotation import SecretRotation
from agent_service.tool_kinds import ToolKinds
from agent_service.tool_store import StoredTools
from agent_service.tool_trials import ToolTrials


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What is shown of a tool: all but its ciphertext."""

    id: str
    agent_id: str
    name: str
    tool_name: str
    tool_config: dict[str, Any]
    is_enabled: bool
    description: str | None
    needs_approval: bool | None
    timeout_seconds: float | None
    result_characters: int | None
    created_at: datetime
    updated_at: datetime


class ToolRpc(tool_service_pb2_grpc.ToolServiceServicer):
    """hearth.agent.v1.ToolService."""

    def __init__(
        self, tools: AgentTools, stored: StoredTools, kinds: ToolKinds, trials: ToolTrials, rotation: SecretRotation
    ) -> None:
        self._tools = tools
        self._stored = stored
        self._kinds = kinds
        self._trials = trials
        self._rotation = rotation

    async def CreateTool(
        self, request: tool_service_pb2.CreateToolRequest, context: Any
    ) -> tool_service_pb2.CreateToolResponse:
        tool = await self._tools.create(request.agent_id, _draft(request))
        return tool_service_pb2.CreateToolResponse(tool=_shown(tool))

    async def GetTool(self, request: tool_service_pb2.GetToolRequest, context: Any) -> tool_service_pb2.GetToolResponse:
        tool = await self._stored.get(request.agent_id, request.id)
        return tool_service_pb2.GetToolResponse(tool=_shown(tool))

    async def ListTools(
        self, request: tool_service_pb2.ListToolsRequest, context: Any
    ) -> tool_service_pb2.ListToolsResponse:
        tools, token = await self._stored.page(request.agent_id, size=request.page_size, token=request.page_token)
        return tool_service_pb2.ListToolsResponse(tools=[_shown(tool) for tool in tools], next_page_token=token)

    async def UpdateTool(
        self, request: tool_service_pb2.UpdateToolRequest, context: Any
    ) -> tool_service_pb2.UpdateToolResponse:
        tool = await self._tools.replace(request.agent_id, request.id, _draft(request))
        return tool_service_pb2.UpdateToolResponse(tool=_shown(tool))

    async def DeleteTool(
        self, request: tool_service_pb2.DeleteToolRequest, context: Any
    ) -> tool_service_pb2.DeleteToolResponse:
        await self._stored.delete(request.agent_id, request.id)
        return tool_service_pb2.DeleteToolResponse()

    async def CheckTool(
        self, request: tool_service_pb2.CheckToolRequest, context: Any
    ) -> tool_service_pb2.CheckToolResponse:
        check = await self._trials.check(request.agent_id, request.id)
        return to_message(check, tool_service_pb2.CheckToolResponse)

    async def ListToolKinds(
        self, request: tool_service_pb2.ListToolKindsRequest, context: Any
    ) -> tool_service_pb2.ListToolKindsResponse:
        return tool_service_pb2.ListToolKindsResponse(
            kinds=[
                tool_service_pb2.ToolKind(
                    name=kind.name,
                    description=kind.description,
                    config_schema=orjson.dumps(kind.config_schema).decode(),
                )
                for kind in self._kinds.all()
            ]
        )

    async def TryTool(self, request: tool_service_pb2.TryToolRequest, context: Any) -> tool_service_pb2.TryToolResponse:
        trial = await self._trials.run(
            request.name,
            agent_id=request.agent_id if request.HasField("agent_id") else None,
            tool_config=json_object(request.tool_config, "tool_config") if request.HasField("tool_config") else None,
            tool=request.tool if request.HasField("tool") else None,
            arguments=json_object(request.arguments, "arguments") if request.HasField("arguments") else None,
        )
        answer = tool_service_pb2.TryToolResponse(
            tool=trial.tool,
            duration_seconds=trial.duration_seconds,
            tools=[to_message(tool, tool_service_pb2.ToolDescription) for tool in trial.tools],
        )
        if trial.result is not None:
            answer.content, answer.is_error = trial.result.content, trial.result.is_error
            if trial.result.data is not None:
                answer.data = orjson.dumps(trial.result.data).decode()
        return answer

    async def RotateSecrets(
        self, request: tool_service_pb2.RotateSecretsRequest, context: Any
    ) -> tool_service_pb2.RotateSecretsResponse:
        page = await self._rotation.rotate(request.page_token)
        return tool_service_pb2.RotateSecretsResponse(
            rotated_count=page.rotated_count,
            current_count=page.current_count,
            unreadable=[_shown(tool) for tool in page.unreadable],
            next_page_token=page.next_token,
        )


def _draft(request: Message) -> ToolDraft:
    try:
        draft = from_message(request, ToolDraft)
    except orjson.JSONDecodeError:
        draft = None
    if draft is None or not isinstance(draft.tool_config, dict):
        raise no_object("tool_config")
    return draft


def _shown(tool: StoredTool) -> tool_service_pb2.AgentTool:
    shown = _Shown(**{name: getattr(tool, name) for name in _Shown.__dataclass_fields__})
    return to_message(shown, tool_service_pb2.AgentTool)
