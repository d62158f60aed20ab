"""Examples of tools for the OpenAPI document."""

from gateway.examples import AGENT_ID, TOOL_ID

TOOL_DRAFT = {"tool_name": "calculator", "name": "sums", "timeout_seconds": 10}
TOOL = {
    "id": TOOL_ID,
    "agent_id": AGENT_ID,
    "name": "sums",
    "tool_name": "calculator",
    "tool_config": {},
    "is_enabled": True,
    "description": None,
    "needs_approval": None,
    "timeout_seconds": 10,
    "result_characters": None,
    "created_at": "2025-11-24T16:00:00.500000Z",
    "updated_at": "2025-11-24T16:00:00.500000Z",
}
TOOL_PAGE = {"items": [TOOL], "next_cursor": None}
KINDS = {
    "items": [
        {
            "name": "calculator",
            "description": "Works out arithmetic.",
            "config_schema": {"type": "object", "properties": {}, "additionalProperties": False},
        }
    ]
}
_DESCRIPTION = {
    "name": "sums",
    "description": "Works out an arithmetic expression.",
    "parameters": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
        "additionalProperties": False,
    },
    "repeatable": True,
    "needs_approval": False,
    "timeout_seconds": 10,
    "result_characters": 8000,
}
CHECK = {"is_healthy": True, "detail": "", "tools": [_DESCRIPTION], "duration_seconds": 0.002}
TRIAL = {"arguments": {"expression": "6 * 7"}}
TRIAL_OF_AN_AGENT = {"agent_id": AGENT_ID}
TRIAL_RESULT = {
    "tool": "calculator",
    "content": "42",
    "is_error": False,
    "data": 42,
    "duration_seconds": 0.001,
    "tools": None,
}
