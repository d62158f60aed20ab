"""Collections, documents, and searching them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gateway.schemas.fields import STORABLE, WHOLE, Answer, Body, ModelName, limited
from gateway.schemas.tasks import RunAccepted

MAX_FILTER_CHARACTERS = 16_384
MAX_COLLECTIONS = 100

CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Description = Annotated[str, Field(max_length=2000), STORABLE]
DocumentStatus = Literal["uploading", "pending", "ready", "failed", "cancelled"]
Mode = Literal["hybrid", "vector", "text"]


class CollectionDraft(Body):
    """A collection to be made."""

    name: CollectionName = Field(description="Its name, which nothing changes", examples=["handbooks"])
    description: Description = ""
    embedding_model: ModelName | None = Field(
        None,
        description="The model that embeds its documents; HEARTH_EMBEDDING_MODEL's if left out",
        examples=["multilingual-e5-small:latest"],
    )
    chunk_tokens: Annotated[int, Field(ge=32, le=8192), WHOLE] | None = Field(
        None,
        description="How long a chunk is at most, in tokens as estimated; 256 if left out. The model must take as many",
    )


class CollectionReplacement(Body):
    """What a collection is to be."""

    description: Description = ""
    embedding_model: ModelName = Field(
        description="Another model than before has a task embed all anew; until that is done the old one is searched"
    )


class Collection(Answer):
    """Documents that are searched together, with one embedding model."""

    name: str
    description: str
    embedding_model: str = Field(description="The model that is searched")
    next_embedding_model: str | None = Field(description="The model whose vectors are being made; searched after that")
    chunk_tokens: int
    document_count: int = Field(description="How many can be found")
    chunk_count: int
    created_at: datetime
    updated_at: datetime


class CollectionChanged(Answer):
    """A collection, and the task that changes its model."""

    collection: Collection
    task: RunAccepted | None = Field(description="Null where nothing is to be embedded anew")


class CollectionPage(Answer):
    """A page of collections, by name."""

    items: list[Collection]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class Document(Answer):
    """A file, and what was made of it."""

    id: str = Field(description="UUIDv7", json_schema_extra={"format": "uuid"})
    collection: str
    name: str
    media_type: str
    size_bytes: int
    content_hash: str = Field(description="SHA-256, hexadecimal. A collection has each content once")
    metadata: dict[str, Any]
    status: DocumentStatus = Field(description="`pending` while its task waits or runs; found once it is `ready`")
    task_id: str | None = Field(json_schema_extra={"format": "uuid"})
    error_code: str | None = Field(description="Of its task")
    error_message: str | None
    page_count: int | None = Field(description="Null for kinds of files that have no pages")
    character_count: int
    chunk_count: int
    created_at: datetime
    ready_at: datetime | None


class DocumentAccepted(RunAccepted):
    """A document, and the task that reads it."""

    document: Document


class DocumentPage(Answer):
    """A page of documents, the newest first."""

    items: list[Document]
    next_cursor: str | None = Field(description="What `cursor` gives the next page; null on the last")


class SearchRequest(Body):
    """What to search for, and where."""

    query: Annotated[str, Field(min_length=1, max_length=4000), STORABLE] = Field(
        description="A question, or words", examples=["How much may a hotel cost?"]
    )
    collections: Annotated[list[CollectionName], AfterValidator(limited(MAX_COLLECTIONS))] = Field(
        default=[],
        description="Where to search; all collections, the first 100 by name, if left out",
        examples=[["handbooks"]],
    )
    limit: Annotated[int, Field(ge=1, le=100), WHOLE] = Field(10, description="How many chunks at most")
    filter: dict[str, Any] = Field(
        default={},
        description='What a document\'s metadata must contain: {"year": 2026} or {"tags": ["travel"]}',
        examples=[{"year": 2026}],
    )
    mode: Mode = Field(
        "hybrid",
        description="By words (`text`), by meaning (`vector`), or both, fused by reciprocal rank (`hybrid`)",
    )


class FoundChunk(Answer):
    """A piece of a document that a search found."""

    document_id: str = Field(json_schema_extra={"format": "uuid"})
    document_name: str
    collection: str
    number: int = Field(description="Its place in the document, from 0")
    text: str
    headings: list[str] = Field(description="The path to it, the outermost first")
    page: int | None = Field(description="From 1; null for kinds of files that have no pages")
    span: tuple[int, int] = Field(description="Where it begins and ends in the document's text, in characters")
    metadata: dict[str, Any] = Field(description="The document's")
    score: float = Field(description="What the results are ordered by; comparable within one answer alone")
    vector_score: float | None = Field(description="Cosine similarity; null where no vector led here")
    text_score: float | None = Field(description="PostgreSQL's ts_rank_cd; null where no word led here")


class SearchResult(Answer):
    """What was found, the best first."""

    items: list[FoundChunk]
