"""Tools of agents, as they are stored: the values of hearth.storage.v1.StoredTool."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StoredTool:
    """A row of `agent_tools`: a tool of the kind `tool_name` that the agent knows by `name`.

    `secrets` is ciphertext, empty where `tool_config` has no secret; there a marker stands in the place of each.
    What is None is the tool's own: `timeout_seconds`, `result_characters`, `description`, `needs_approval`.
    """

    id: str
    agent_id: str
    name: str
    tool_name: str
    tool_config: dict[str, Any]
    secrets: bytes
    is_enabled: bool
    description: str | None
    needs_approval: bool | None
    timeout_seconds: float | None
    result_characters: int | None
    created_at: datetime
    updated_at: datetime
