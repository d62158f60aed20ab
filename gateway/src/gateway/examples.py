"""Examples for the OpenAPI document: one agent, one run of it, and what is seen of that run."""

from typing import Any

AGENT_ID = "0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e"
TASK_ID = "0199f0a5-1c2d-7e4f-8a6b-9c0d1e2f3a4b"
SESSION_ID = "0199f0a4-9a00-7d11-8c55-1f2e3d4c5b6a"
TOOL_ID = "0199f0a4-7c00-7b22-9e10-3a4b5c6d7e8f"
EVENT_ID = "1764000000000-0"

AGENT_DRAFT = {
    "name": "helper",
    "description": "Answers short questions.",
    "model_name": "smollm2:135m",
    "config": {"system_prompt": "You are brief.", "temperature": 0.7, "timeout_seconds": 120},
}
AGENT = {
    "id": AGENT_ID,
    **AGENT_DRAFT,
    "created_at": "2025-11-24T16:00:00.123456Z",
    "updated_at": "2025-11-24T16:00:00.123456Z",
    "is_active": True,
}
AGENT_PAGE = {"items": [AGENT], "next_cursor": None}

RUN = {"agent_id": AGENT_ID, "input": {"prompt": "Name three colours."}}
RUN_IN_SESSION = {
    "agent_id": AGENT_ID,
    "input": {"messages": [{"role": "user", "content": "And three more?"}]},
    "session_id": SESSION_ID,
}
RUN_WITH_TOOL = {
    "agent_id": AGENT_ID,
    "input": {"prompt": "Where is order 4711?"},
    "tools": [
        {
            "type": "client",
            "name": "look_up_order",
            "description": "Looks up an order by its number.",
            "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
            "timeout_seconds": 300,
        }
    ],
}
RESUME_TOOL_CALL = {"results": [{"id": "act:1:0", "output": {"status": "shipped"}}]}
RESUME_APPROVE = {"results": [{"id": "act:1:0", "decision": "approve", "arguments": {"path": "notes.txt"}}]}
RESUME_REJECT = {"results": [{"id": "act:1:0", "decision": "reject", "reason": "Not this file."}]}
RESUME_ANSWER = {"results": [{"id": "act:1:0", "output": "The second one."}]}
RUN_WITH_FILE = {
    "agent_id": AGENT_ID,
    "input": {"prompt": "What is this about?"},
    "attachments": [{"name": "notes.md", "media_type": "text/markdown", "data": "IyBOb3Rlcwo="}],
}
RUN_ACCEPTED = {
    "task_id": TASK_ID,
    "status": "pending",
    "links": {
        "status": f"/api/v1/tasks/{TASK_ID}/status",
        "stream": f"/api/v1/logs/stream/{TASK_ID}",
        "events": f"/api/v1/ws/tasks/{TASK_ID}",
        "logs": f"/api/v1/tasks/{TASK_ID}/logs",
        "attempts": f"/api/v1/tasks/{TASK_ID}/attempts",
        "cancel": f"/api/v1/tasks/{TASK_ID}",
        "trace": None,
    },
}
TASK: dict[str, Any] = {
    "id": TASK_ID,
    "agent_id": AGENT_ID,
    "session_id": None,
    "status": "completed",
    "input": {"prompt": "Name three colours."},
    "output": {
        "text": "Red, green and blue.",
        "data": None,
        "usage": {"prompt_tokens": 24, "completion_tokens": 7, "duration_seconds": 0.42},
        "model": "smollm2:135m",
    },
    "error_code": None,
    "error_message": None,
    "retry_count": 0,
    "attempt": 1,
    "created_at": "2025-11-24T16:00:01.000000Z",
    "started_at": "2025-11-24T16:00:01.020000Z",
    "completed_at": "2025-11-24T16:00:01.500000Z",
    "next_attempt_at": None,
    "cancel_requested": False,
    "pending": [],
    "parent_task_id": None,
    "user": None,
    "forked_from_task_id": None,
    "replay_of_task_id": None,
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "links": RUN_ACCEPTED["links"],
}
TASK_PAGE = {"items": [TASK], "next_cursor": TASK_ID}
RETRY_FROM_START = {"from": "start"}
ATTEMPT_PAGE = {
    "items": [
        {
            "attempt": 1,
            "worker_id": "host-4711-a1b2c3",
            "started_at": "2025-11-24T16:00:01.020000Z",
            "ended_at": "2025-11-24T16:00:13.500000Z",
            "outcome": "worker_lost",
            "error_code": "worker_lost",
            "error_message": "The worker that ran this stopped answering.",
            "resumed_from": None,
        },
        {
            "attempt": 2,
            "worker_id": "host-4712-d4e5f6",
            "started_at": "2025-11-24T16:00:13.600000Z",
            "ended_at": "2025-11-24T16:00:14.100000Z",
            "outcome": "completed",
            "error_code": None,
            "error_message": None,
            "resumed_from": "generate",
        },
    ],
    "next_cursor": None,
}
TASK_CANCELLED = {"task_id": TASK_ID, "status": "running"}

SESSION = {
    "id": SESSION_ID,
    "agent_id": AGENT_ID,
    "title": "Colours",
    "forked_from": None,
    "turn_count": 2,
    "first_turn": 1,
    "summary": None,
    "summarized_turns": 0,
    "created_at": "2025-11-24T16:00:01.000000Z",
    "updated_at": "2025-11-24T16:00:01.500000Z",
}
SESSION_PAGE = {"items": [SESSION], "next_cursor": None}
_TURNS = [
    {
        "number": number,
        "role": role,
        "content": content,
        "task_id": TASK_ID,
        "created_at": "2025-11-24T16:00:01.500000Z",
    }
    for number, role, content in ((1, "user", "Name three colours."), (2, "assistant", "Red, green and blue."))
]
SESSION_EXPORT = {**SESSION, "turns": _TURNS}
SESSION_WITH_TURNS = {**SESSION_EXPORT, "next_cursor": None}
SESSION_MARKDOWN = f"""# Colours

- id: {SESSION_ID}
- agent: {AGENT_ID}
- begun: 2025-11-24T16:00:01Z

## 1. user

Name three colours.

## 2. assistant

Red, green and blue.
"""
SESSION_CHANGE = {"title": "Colours"}
FORK = {"until_turn": 2, "title": "Other colours"}
FORKED_SESSION = {
    **SESSION,
    "id": "0199f0a6-2b00-7c55-8d11-3c4d5e6f7a8b",
    "title": "Other colours",
    "forked_from": SESSION_ID,
}

LOG = {
    "id": "0199f0a5-1d00-7000-8000-000000000001",
    "task_id": TASK_ID,
    "agent_id": AGENT_ID,
    "level": "info",
    "kind": "log",
    "attempt": 1,
    "message": "The run begins",
    "context": {"model": "smollm2:135m"},
    "timestamp": "2025-11-24T16:00:01.030000Z",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "stream_id": EVENT_ID,
}
LOG_PAGE = {"items": [LOG], "next_cursor": None}

STREAM = f"""retry: 1000

event: status
data: {{"id":"1764000000000-0","task_id":"{TASK_ID}","agent_id":"{AGENT_ID}","attempt":1,"kind":"status",\
"level":"info","message":"running","context":{{"status":"running"}},"timestamp":"2025-11-24T16:00:01.020000Z",\
"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}
id: 1764000000000-0

event: delta
data: {{"id":"1764000000100-0","task_id":"{TASK_ID}","agent_id":"{AGENT_ID}","attempt":1,"kind":"delta",\
"level":"info","message":"Red, ","context":{{}},"timestamp":"2025-11-24T16:00:01.120000Z",\
"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}
id: 1764000000100-0

: heartbeat

event: end
data: {{"kind":"end","task_id":"{TASK_ID}","status":"completed"}}

"""

MODELS = {
    "items": [
        {
            "name": "smollm2:135m",
            "capabilities": ["completion"],
            "family": "llama",
            "parameter_size": "135M",
            "quantization": "Q4_1",
            "size_bytes": 98_000_000,
            "context_tokens": 8192,
            "hosts": ["http://127.0.0.1:11434"],
        }
    ],
    "hosts": [
        {
            "name": "http://127.0.0.1:11434",
            "reachable": True,
            "version": "0.12.0",
            "error": None,
            "active_requests": 1,
            "waiting_requests": 0,
            "breaker": {"state": "closed", "reason": None, "since": None, "next_probe": None},
        }
    ],
}

_OK = {"status": "ok", "latency_ms": 1.2, "detail": ""}
_AWAY = {
    "status": "unavailable",
    "latency_ms": 3.1,
    "detail": "It does not answer: check that it runs and that HEARTH_STORAGE_ADDRESS names it.",
}
_POSTGRESQL = {"status": "ok", "required": True, "latency_ms": 0.6, "detail": "", "services": ["storage"]}
HEALTHY = {
    "status": "ok",
    "services": {"agent": _OK, "inference": _OK, "log": _OK, "storage": _OK},
    "dependencies": {"postgresql": _POSTGRESQL},
}
UNHEALTHY = {
    "status": "unavailable",
    "services": {"agent": _OK, "inference": _OK, "log": _OK, "storage": _AWAY},
    "dependencies": {},
}
LIVE = {"status": "ok"}
METRICS = """# HELP hearth_service_up Whether the service answered this scrape
# TYPE hearth_service_up gauge
hearth_service_up{service="agent"} 1.0
"""

TICKET = {
    "ticket": "ticket_5m2cq0y7v1Yb3nq8Zr4t6u9w2x5z8A1c4E7g0J3m6P9",
    "expires_at": "2025-11-24T16:00:31Z",
}
