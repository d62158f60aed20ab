"""Encrypts stored secrets again, with the first key: after that no other is needed."""

from dataclasses import dataclass

from hearth_runtime.agent_tools import StoredTool
from hearth_runtime.errors import ToolNotFound

from agent_service.agent_tools import purpose_of
from agent_service.secret_keys import SecretKeys, Undecipherable
from agent_service.tool_store import StoredTools


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """What came of a page: how many were encrypted again, how many had been, and those that no key can read."""

    rotated_count: int
    current_count: int
    unreadable: tuple[StoredTool, ...]
    next_token: str


class SecretRotation:
    """The secrets of all agents' tools, page by page."""

    def __init__(self, stored: StoredTools, keys: SecretKeys) -> None:
        self._stored = stored
        self._keys = keys

    async def rotate(self, token: str) -> Rotated:
        """Encrypts a page of them with the first key. Raises SecretKeyMissing."""
        rotated, current, unreadable = 0, 0, list[StoredTool]()
        tools, token = await self._stored.page_of_secrets(token=token)
        for tool in tools:
            try:
                if await self._rotate(tool):
                    rotated += 1
                else:
                    current += 1
            except Undecipherable:
                unreadable.append(tool)
            except ToolNotFound:
                pass  # it was deleted meanwhile
        return Rotated(rotated_count=rotated, current_count=current, unreadable=tuple(unreadable), next_token=token)

    async def _rotate(self, tool: StoredTool) -> bool:
        purpose = purpose_of(tool.agent_id, tool.id)
        while tool.secrets and not self._keys.is_current(tool.secrets):
            plain = self._keys.decrypt(tool.secrets, purpose=purpose)
            if await self._stored.replace_secrets(tool, self._keys.encrypt(plain, purpose=purpose)):
                return True
            # Somebody has stored others meanwhile, perhaps with a key of before.
            tool = await self._stored.get(tool.agent_id, tool.id)
        return False
