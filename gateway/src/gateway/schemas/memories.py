"""What agents remember beyond a conversation."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.schemas.fields import STORABLE, Answer, Body, Id, MemoryScope, UserName

MAX_MEMORY_CHARACTERS = 1000
MAX_TOPIC_CHARACTERS = 100

Content = Annotated[str, Field(min_length=1, max_length=MAX_MEMORY_CHARACTERS, pattern=r"\S"), STORABLE]
Topic = Annotated[str, Field(min_length=1, max_length=MAX_TOPIC_CHARACTERS), STORABLE]
Importance = Annotated[float, Field(ge=0, le=1)]


class Memory(Answer):
    """A fact that an agent keeps."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    agent_id: str = Field(json_schema_extra={"format": "uuid"})
    scope: MemoryScope = Field(description="For whom it is kept")
    session_id: str | None = Field(description="The session, in the scope `session`")
    user: str | None = Field(description="The user, in the scope `user`")
    content: str
    topic: str | None = Field(description="What it is about: a newer fact of the same topic supersedes it")
    importance: float = Field(description="From 0 to 1")
    source: Literal["api", "tool", "extraction"] = Field(description="Who kept it: `extraction` is after a run")
    task_id: str | None = Field(description="The run that it is from")
    created_at: datetime
    updated_at: datetime = Field(description="When it was last told or changed")
    last_recalled_at: datetime | None = Field(description="When a run was last told of it")
    recall_count: int
    superseded_by: str | None = Field(description="The newer fact, while that is there")
    superseded_at: datetime | None = Field(description="Since when it is history and not recalled any more")


class MemoryPage(Answer):
    """A page of facts, the newest first."""

    items: list[Memory]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class _Whose(Body):
    """For whom a fact is kept, with the session or user that the scope needs."""

    scope: MemoryScope = Field("agent", description="For whom it is kept", examples=["user"])
    session_id: Id | None = Field(
        None, description="The session, in the scope `session`", examples=["0199f0a4-9a00-7d11-8c55-1f2e3d4c5b6a"]
    )
    user: UserName | None = Field(None, description="The user, in the scope `user`", examples=["ada"])

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.session_id is not None) != (self.scope == "session"):
            raise ValueError("takes `session_id` in the scope `session`, and there alone")
        if (self.user is not None) != (self.scope == "user"):
            raise ValueError("takes `user` in the scope `user`, and there alone")
        return self

    @property
    def subject(self) -> str:
        """The session or the user; empty for the agent."""
        return self.session_id or self.user or ""


class MemoryDraft(_Whose):
    """A fact to keep."""

    content: Content = Field(
        description="One short sentence that can be understood by itself", examples=["The user's dog is called Rex."]
    )
    topic: Topic | None = Field(
        None,
        description="What it is about, in a few words: what was kept of the same topic before is superseded. If left "
        "out it is told from the wording, where that is plain English such as `I live in …`",
        examples=["name of the dog"],
    )
    importance: Importance = Field(0.5, description="How much it matters", examples=[0.8])


class MemoryKept(Answer):
    """What became of a fact."""

    memory: Memory = Field(description="The fact, or the one that says the same")
    created: bool = Field(description="False where it was known")
    superseded_ids: list[str] = Field(description="Older facts that it took the place of")


class MemoryChange(Body):
    """What to change of a fact; what is left out stays as it is."""

    content: Content = Field("", description="What it says", examples=["The user's dog is called Max."])
    topic: Topic | None = Field(None, description="What it is about; null for nothing", examples=["name of the dog"])
    importance: Importance = Field(0.5, description="How much it matters", examples=[0.8])


class MemorySearch(Body):
    """What to look for in what an agent remembers."""

    agent_id: Id = Field(description="The agent", examples=["0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e"])
    query: Annotated[str, Field(min_length=1, max_length=MAX_MEMORY_CHARACTERS), STORABLE] = Field(
        description="A question, or keywords", examples=["What is the user's dog called?"]
    )
    session_id: Id | None = Field(
        None, description="Also facts of this session", examples=["0199f0a4-9a00-7d11-8c55-1f2e3d4c5b6a"]
    )
    user: UserName | None = Field(None, description="Also facts of this user", examples=["ada"])
    limit: Annotated[int, Field(ge=1, le=50)] = Field(10, description="How many at most", examples=[5])


class RecalledMemory(Answer):
    """A fact that answers a query, and why it stands where it does."""

    memory: Memory
    similarity: float = Field(description="Of the texts: the cosine of their vectors")
    relevance: float = Field(description="The similarity relative to the best one found, from 0 to 1")
    recency: float = Field(description="1 for what was told or recalled just now; halves every 30 days")
    score: float = Field(description="0.6 × relevance + 0.2 × recency + 0.2 × importance")


class RecalledMemories(Answer):
    """What was found, the best first."""

    items: list[RecalledMemory]


class MemoriesForgotten(Answer):
    """What was forgotten."""

    forgotten_count: int = Field(description="How many facts, history among them")
