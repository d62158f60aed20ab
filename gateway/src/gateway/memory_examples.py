"""Examples of what agents remember for the OpenAPI document."""

from gateway.examples import AGENT_ID, TASK_ID

MEMORY_ID = "0199f0a7-3c00-7a22-9b33-4d5e6f7a8b9c"
MEMORY_DRAFT = {"scope": "user", "user": "ada", "content": "The user's dog is called Rex.", "topic": "name of the dog"}
MEMORY = {
    "id": MEMORY_ID,
    "agent_id": AGENT_ID,
    "scope": "user",
    "session_id": None,
    "user": "ada",
    "content": "The user's dog is called Rex.",
    "topic": "name of the dog",
    "importance": 0.5,
    "source": "extraction",
    "task_id": TASK_ID,
    "created_at": "2025-11-24T16:00:01.500000Z",
    "updated_at": "2025-11-24T16:00:01.500000Z",
    "last_recalled_at": None,
    "recall_count": 0,
    "superseded_by": None,
    "superseded_at": None,
}
MEMORY_PAGE = {"items": [MEMORY], "next_cursor": None}
MEMORY_KEPT = {"memory": MEMORY, "created": True, "superseded_ids": []}
MEMORY_CHANGE = {"importance": 0.9}
MEMORY_SEARCH = {"agent_id": AGENT_ID, "user": "ada", "query": "What is the user's dog called?", "limit": 5}
RECALLED = {
    "items": [{"memory": MEMORY, "similarity": 0.88, "relevance": 1.0, "recency": 0.97, "score": 0.894}],
}
FORGOTTEN = {"forgotten_count": 3}
