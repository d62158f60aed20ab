"""Examples of collections, documents and a search, for the OpenAPI document."""

from gateway.examples import RUN_ACCEPTED, TASK_ID

DOCUMENT_ID = "0199f0a6-2b3c-7d4e-9f5a-6b7c8d9e0f1a"
MODEL = "multilingual-e5-small:latest"

COLLECTION_DRAFT = {"name": "handbooks", "description": "What everybody should know.", "embedding_model": MODEL}
COLLECTION = {
    "name": "handbooks",
    "description": "What everybody should know.",
    "embedding_model": MODEL,
    "next_embedding_model": None,
    "chunk_tokens": 256,
    "document_count": 1,
    "chunk_count": 3,
    "created_at": "2025-11-24T16:00:00.123456Z",
    "updated_at": "2025-11-24T16:00:00.123456Z",
}
COLLECTION_PAGE = {"items": [COLLECTION], "next_cursor": None}
COLLECTION_REPLACEMENT = {"description": "What everybody should know.", "embedding_model": "nomic-embed-text:latest"}
COLLECTION_CHANGED = {
    "collection": {**COLLECTION, "next_embedding_model": "nomic-embed-text:latest"},
    "task": RUN_ACCEPTED,
}

UPLOAD = {"file": "# Handbook …", "collection": "handbooks", "metadata": '{"year": 2026}'}
DOCUMENT = {
    "id": DOCUMENT_ID,
    "collection": "handbooks",
    "name": "handbook.md",
    "media_type": "text/markdown",
    "size_bytes": 1234,
    "content_hash": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    "metadata": {"year": 2026},
    "status": "ready",
    "task_id": TASK_ID,
    "error_code": None,
    "error_message": None,
    "page_count": None,
    "character_count": 1230,
    "chunk_count": 3,
    "created_at": "2025-11-24T16:00:00.123456Z",
    "ready_at": "2025-11-24T16:00:02.654321Z",
}
DOCUMENT_PAGE = {"items": [DOCUMENT], "next_cursor": None}
DOCUMENT_ACCEPTED = {**RUN_ACCEPTED, "document": {**DOCUMENT, "status": "pending", "chunk_count": 0, "ready_at": None}}

SEARCH = {"query": "How much may a hotel cost?", "collections": ["handbooks"], "filter": {"year": 2026}}
SEARCH_RESULT = {
    "items": [
        {
            "document_id": DOCUMENT_ID,
            "document_name": "handbook.md",
            "collection": "handbooks",
            "number": 2,
            "text": "### Hotels\nA hotel costs at most one hundred euros a night.",
            "headings": ["Handbook", "Travel", "Hotels"],
            "page": None,
            "span": [150, 214],
            "metadata": {"year": 2026},
            "score": 0.0325,
            "vector_score": 0.91,
            "text_score": 0.2,
        }
    ]
}
