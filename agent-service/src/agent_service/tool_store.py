"""The tools of agents, as storage-service keeps them."""

import grpc.aio
from hearth.storage.v1 import tool_store_pb2, tool_store_pb2_grpc
from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.codec import from_message, to_message

from agent_service.agent_tools import AgentTool, ToolDraft, open_secrets
from agent_service.secret_keys import SecretKeys

PAGE_SIZE = 500


class StoredTools:
    """The table `agent_tools`."""

    def __init__(self, channel: grpc.aio.Channel, keys: SecretKeys) -> None:
        self._stub = tool_store_pb2_grpc.ToolStoreServiceStub(channel)
        self._keys = keys

    async def insert(self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes) -> StoredTool:
        """Raises AgentNotFound, AgentReserved, ToolNameTaken, TooManyTools."""
        request = tool_store_pb2.InsertToolRequest(tool=_message(agent_id, tool_id, draft, secrets))
        return from_message((await self._stub.InsertTool(request)).tool, StoredTool)

    async def get(self, agent_id: str, tool_id: str) -> StoredTool:
        """Raises ToolNotFound."""
        answer = await self._stub.GetTool(tool_store_pb2.GetToolRequest(agent_id=agent_id, id=tool_id))
        return from_message(answer.tool, StoredTool)

    async def page(
        self, agent_id: str, *, size: int, token: str, is_enabled: bool | None = None
    ) -> tuple[tuple[StoredTool, ...], str]:
        """A page of the agent's tools, the oldest first. Raises AgentNotFound."""
        answer = await self._stub.ListTools(
            tool_store_pb2.ListToolsRequest(agent_id=agent_id, page_size=size, page_token=token, is_enabled=is_enabled)
        )
        return tuple(from_message(t, StoredTool) for t in answer.tools), answer.next_page_token

    async def update(
        self, agent_id: str, tool_id: str, draft: ToolDraft, *, secrets: bytes, old_secrets: bytes | None
    ) -> StoredTool | None:
        """The tool as it is now; None where its secrets were not `old_secrets`. Raises ToolNotFound, ToolNameTaken."""
        request = tool_store_pb2.UpdateToolRequest(
            tool=_message(agent_id, tool_id, draft, secrets), old_secrets=old_secrets
        )
        answer = await self._stub.UpdateTool(request)
        return from_message(answer.tool, StoredTool) if answer.HasField("tool") else None

    async def delete(self, agent_id: str, tool_id: str) -> None:
        """Raises ToolNotFound."""
        await self._stub.DeleteTool(tool_store_pb2.DeleteToolRequest(agent_id=agent_id, id=tool_id))

    async def page_of_secrets(self, *, token: str) -> tuple[tuple[StoredTool, ...], str]:
        """A page of the tools of all agents that have secrets, by id."""
        answer = await self._stub.ListSecrets(tool_store_pb2.ListSecretsRequest(page_size=PAGE_SIZE, page_token=token))
        return tuple(from_message(t, StoredTool) for t in answer.tools), answer.next_page_token

    async def replace_secrets(self, tool: StoredTool, secrets: bytes) -> bool:
        """Whether the tool's secrets were still those, and are now these."""
        answer = await self._stub.ReplaceSecrets(
            tool_store_pb2.ReplaceSecretsRequest(
                agent_id=tool.agent_id, id=tool.id, old_secrets=tool.secrets, new_secrets=secrets
            )
        )
        return bool(answer.is_replaced)

    async def of_agent(self, agent_id: str) -> tuple[AgentTool, ...]:
        """The enabled tools, the oldest first, with their secrets. Raises AgentNotFound, SecretUnreadable."""
        found: list[AgentTool] = []
        token = ""
        while True:
            tools, token = await self.page(agent_id, size=PAGE_SIZE, token=token, is_enabled=True)
            found.extend(open_secrets(self._keys, tool) for tool in tools)
            if not token:
                return tuple(found)


def _message(agent_id: str, tool_id: str, draft: ToolDraft, secrets: bytes) -> tool_store_pb2.StoredTool:
    message = to_message(draft, tool_store_pb2.StoredTool)
    message.id, message.agent_id, message.secrets = tool_id, agent_id, secrets
    return message
