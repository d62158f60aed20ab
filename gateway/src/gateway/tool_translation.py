"""Messages about tools as the public contract's values. It translates and never decides."""

import json
from datetime import UTC
from typing import Any

import orjson
from hearth.agent.v1 import tool_service_pb2

from gateway.schemas.tools import AgentTool, ToolCheck, ToolDescription, ToolDraft, ToolKind, TrialResult


def draft_fields(draft: ToolDraft) -> dict[str, Any]:
    """The fields of a request that makes or replaces a tool."""
    fields = draft.model_dump(exclude_none=True)
    return {**fields, "tool_config": json.dumps(draft.tool_config, ensure_ascii=False)}


def tool_of(message: tool_service_pb2.AgentTool) -> AgentTool:
    """The tool in `message`."""
    return AgentTool(
        id=message.id,
        agent_id=message.agent_id,
        name=message.name,
        tool_name=message.tool_name,
        tool_config=orjson.loads(message.tool_config),
        is_enabled=message.is_enabled,
        description=message.description if message.HasField("description") else None,
        needs_approval=message.needs_approval if message.HasField("needs_approval") else None,
        timeout_seconds=message.timeout_seconds if message.HasField("timeout_seconds") else None,
        result_characters=message.result_characters if message.HasField("result_characters") else None,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        updated_at=message.updated_at.ToDatetime(tzinfo=UTC),
    )


def kind_of(message: tool_service_pb2.ToolKind) -> ToolKind:
    """The kind in `message`."""
    return ToolKind(
        name=message.name, description=message.description, config_schema=orjson.loads(message.config_schema)
    )


def check_of(message: tool_service_pb2.CheckToolResponse) -> ToolCheck:
    """The check in `message`."""
    return ToolCheck(
        is_healthy=message.is_healthy,
        detail=message.detail,
        tools=[_description(tool) for tool in message.tools],
        duration_seconds=message.duration_seconds,
    )


def trial_of(message: tool_service_pb2.TryToolResponse) -> TrialResult:
    """What a trial gave, in `message`."""
    was_called = message.HasField("content")
    return TrialResult(
        tool=message.tool if message.HasField("tool") else None,
        content=message.content if was_called else None,
        is_error=message.is_error,
        data=orjson.loads(message.data) if message.HasField("data") else None,
        duration_seconds=message.duration_seconds,
        tools=None if was_called else [_description(tool) for tool in message.tools],
    )


def _description(message: tool_service_pb2.ToolDescription) -> ToolDescription:
    return ToolDescription(
        name=message.name,
        description=message.description,
        parameters=orjson.loads(message.parameters),
        repeatable=message.repeatable,
        needs_approval=message.needs_approval,
        timeout_seconds=message.timeout_seconds,
        result_characters=message.result_characters,
    )
