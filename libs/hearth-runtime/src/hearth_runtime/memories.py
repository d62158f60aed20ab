"""What agents remember, as every service knows it: the values of hearth/agent/v1/memory.proto."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# What one fact may have.
MEMORY_CHARACTERS = 1000
TOPIC_CHARACTERS = 100


class MemoryScope(StrEnum):
    """For whom a fact is kept."""

    AGENT = "agent"
    SESSION = "session"
    USER = "user"


class MemorySource(StrEnum):
    """Where a fact is from."""

    API = "api"
    TOOL = "tool"
    EXTRACTION = "extraction"


@dataclass(frozen=True, kw_only=True)
class MemorySubject:
    """Whose facts: a scope, and the session's id or the user in it; empty for the agent itself."""

    scope: MemoryScope
    subject: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A fact that an agent keeps. Since `superseded_at` it is history: a newer one of its topic took its place."""

    id: str
    agent_id: str
    scope: MemoryScope
    subject: str
    content: str
    topic: str | None
    importance: float
    source: MemorySource
    task_id: str | None
    created_at: datetime
    updated_at: datetime
    last_recalled_at: datetime | None
    recall_count: int
    superseded_by: str | None
    superseded_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RecalledMemory:
    """A fact that answers a query: its cosine similarity, what that is worth among all that were compared, how recent
    it is, and the score that follows, all but the first from 0 to 1."""

    memory: Memory
    similarity: float
    relevance: float
    recency: float
    score: float
