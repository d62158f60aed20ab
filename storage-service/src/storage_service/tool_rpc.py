"""The RPCs of agents' tools: requests to values and back. Only whether a request is valid is decided here."""

from typing import Any

from hearth.storage.v1 import tool_store_pb2, tool_store_pb2_grpc
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.codec import to_message
from hearth_runtime.identifiers import is_id

from storage_service import arguments
from storage_service.agent_tools import AgentTools, ToolDraft, tool_not_found
from storage_service.agents import agent_not_found

PAGE_LIMIT = 500


class ToolStoreRpc(tool_store_pb2_grpc.ToolStoreServiceServicer):
    """The table `agent_tools`."""

    def __init__(self, tools: AgentTools) -> None:
        self._tools = tools

    async def InsertTool(self, request: Any, context: Any) -> tool_store_pb2.InsertToolResponse:
        draft = _draft(request.tool)
        arguments.uuid(draft.id, "tool.id")
        return tool_store_pb2.InsertToolResponse(tool=_message(await self._tools.insert(draft)))

    async def GetTool(self, request: Any, context: Any) -> tool_store_pb2.GetToolResponse:
        return tool_store_pb2.GetToolResponse(tool=_message(await self._tools.get(*_ids(request.agent_id, request.id))))

    async def ListTools(self, request: Any, context: Any) -> tool_store_pb2.ListToolsResponse:
        page = await self._tools.list(
            _agent_id(request.agent_id),
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            is_enabled=request.is_enabled if request.HasField("is_enabled") else None,
        )
        return tool_store_pb2.ListToolsResponse(
            tools=[_message(tool) for tool in page.items], next_page_token=page.next_token
        )

    async def UpdateTool(self, request: Any, context: Any) -> tool_store_pb2.UpdateToolResponse:
        _ids(request.tool.agent_id, request.tool.id)
        old_secrets = request.old_secrets if request.HasField("old_secrets") else None
        tool = await self._tools.update(_draft(request.tool), old_secrets=old_secrets)
        return tool_store_pb2.UpdateToolResponse(tool=None if tool is None else _message(tool))

    async def DeleteTool(self, request: Any, context: Any) -> tool_store_pb2.DeleteToolResponse:
        await self._tools.delete(*_ids(request.agent_id, request.id))
        return tool_store_pb2.DeleteToolResponse()

    async def ListSecrets(self, request: Any, context: Any) -> tool_store_pb2.ListSecretsResponse:
        page = await self._tools.list_secrets(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token
        )
        return tool_store_pb2.ListSecretsResponse(
            tools=[_message(tool) for tool in page.items], next_page_token=page.next_token
        )

    async def ReplaceSecrets(self, request: Any, context: Any) -> tool_store_pb2.ReplaceSecretsResponse:
        agent_id, tool_id = _ids(request.agent_id, request.id)
        is_replaced = await self._tools.replace_secrets(
            agent_id, tool_id, old=request.old_secrets, new=request.new_secrets
        )
        return tool_store_pb2.ReplaceSecretsResponse(is_replaced=is_replaced)


def _agent_id(text: str) -> str:
    if not is_id(text):
        raise agent_not_found(text)
    return text


def _ids(agent_id: str, tool_id: str) -> tuple[str, str]:
    if not is_id(agent_id) or not is_id(tool_id):
        raise tool_not_found(agent_id, tool_id)
    return agent_id, tool_id


def _draft(message: tool_store_pb2.StoredTool) -> ToolDraft:
    draft = arguments.value_of(message, ToolDraft, "tool")
    _agent_id(draft.agent_id)
    arguments.name(draft.name, "tool.name")
    arguments.name(draft.tool_name, "tool.tool_name")
    arguments.json_object(draft.tool_config, "tool.tool_config")
    return draft


def _message(tool: StoredTool) -> tool_store_pb2.StoredTool:
    return to_message(tool, tool_store_pb2.StoredTool)
