"""Documents, as every service knows them: the values of hearth/agent/v1/document.proto."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

# How much of a file or of its text is passed on and stored at a time.
PART_BYTES = 1024 * 1024
PART_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Documents that are searched together, by the vectors of `embedding_model`.

    While `next_embedding_model` is set the vectors of that model are being made.
    """

    id: str
    name: str
    description: str
    embedding_model: str
    next_embedding_model: str | None
    chunk_tokens: int
    document_count: int
    chunk_count: int
    created_at: datetime
    updated_at: datetime


class DocumentStatus(StrEnum):
    """How far a document is."""

    UPLOADING = "uploading"
    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file, and what was made of it. `collection` is a name, `content_hash` SHA-256 in hexadecimal."""

    id: str
    collection: str
    name: str
    media_type: str
    size_bytes: int
    content_hash: str
    metadata: dict[str, Any]
    status: DocumentStatus
    task_id: str | None
    error_code: str | None
    error_message: str | None
    page_count: int | None
    character_count: int
    chunk_count: int
    created_at: datetime
    ready_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a document: `text` is what stands from `start` to `end`, in characters, of the document's text.

    `headings` is the path to it, the outermost first; `page` counts from 1, `number` from 0.
    """

    number: int
    text: str
    headings: tuple[str, ...]
    page: int | None
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class UnembeddedChunk:
    """A chunk that lacks a vector."""

    id: int
    text: str
    headings: tuple[str, ...]
    document_name: str


@dataclass(frozen=True, kw_only=True)
class FoundChunk:
    """A chunk that a search found. `score` orders the results; the parts of it are None where they did not find it."""

    document_id: str
    document_name: str
    collection: str
    number: int
    text: str
    headings: tuple[str, ...]
    page: int | None
    start: int
    end: int
    metadata: dict[str, Any]
    score: float
    vector_score: float | None
    text_score: float | None
