"""The tool `search_documents`: looks something up in collections of documents."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from hearth_runtime.documents import FoundChunk
from hearth_runtime.errors import CollectionNotFound, InvalidArgument

from agent_service.document_store import StoredChunks, StoredDocuments
from agent_service.documents import Query, Searcher
from agent_service.inference import Models
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

DEFAULT_LIMIT = 5


DESCRIPTION_CHARACTERS = 600
CITE = "Cite the passages that you use by their numbers, such as [1]."
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "The question, or the words, to look for",
        }
    },
    "required": ["query"],
    "additionalProperties": False,
}


class SearchDocuments:
    """The one tool of its kind."""

    def __init__(
        self, searcher: Searcher, *, about: str, collections: tuple[str, ...], limit: int, where: dict[str, Any]
    ) -> None:
        self.spec = ToolSpec(
            name="search_documents",
            description=" ".join(filter(None, ("Looks up answers in documents.", about, CITE))),
            parameters=PARAMETERS,
            repeatable=True,
            result_characters=24_000,
            gives="passages",
        )
        self._searcher = searcher
        self._collections = collections
        self._limit = limit
        self._where = where

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        found = await self._searcher.search(
            Query(text=arguments["query"], collections=self._collections, limit=self._limit, where=self._where)
        )
        chunks = [_data(marker, chunk) for marker, chunk in enumerate(found, start=1)]
        content = "\n\n".join(_shown(marker, chunk) for marker, chunk in enumerate(found, start=1))
        return ToolResult(content=content or "Nothing was found in the documents.", data={"chunks": chunks})


class SearchDocumentsKind:
    """`search_documents`."""

    name = "search_documents"
    description = "Looks up passages in collections of documents; answers cite them."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "collections": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
                "maxItems": 100,
                "uniqueItems": True,
                "default": [],
                "description": "The collections to search; all of them, the first 100 by name, if there is none",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 20,
                "default": DEFAULT_LIMIT,
                "description": "How many passages a search gives at most",
            },
            "filter": {
                "type": "object",
                "default": {},
                "description": 'What a document\'s metadata must contain, such as {"year": 2026}',
            },
        },
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        stored = StoredDocuments(host.storage)
        collections = tuple(config.get("collections", ()))
        about = []
        for name in collections:
            try:
                about.append((await stored.collection(name)).description)
            except CollectionNotFound as error:
                raise InvalidArgument(f"search_documents: {error.detail}") from error
        searcher = Searcher(stored, StoredChunks(host.storage), Models(host.inference))
        yield [
            SearchDocuments(
                searcher,
                # By what is in them a model knows when to look there.
                about=" ".join(filter(None, about))[:DESCRIPTION_CHARACTERS],
                collections=collections,
                limit=config.get("limit", DEFAULT_LIMIT),
                where=config.get("filter", {}),
            )
        ]


def _shown(marker: int, chunk: FoundChunk) -> str:
    place = ", ".join(
        filter(None, (chunk.document_name, " > ".join(chunk.headings), f"page {chunk.page}" if chunk.page else ""))
    )
    return f"[{marker}] {place}\n{chunk.text}"


def _data(marker: int, chunk: FoundChunk) -> dict[str, Any]:
    """What `agent_service.citations` reads."""
    return {
        "marker": marker,
        "document_id": chunk.document_id,
        "name": chunk.document_name,
        "collection": chunk.collection,
        "number": chunk.number,
        "page": chunk.page,
        "headings": list(chunk.headings),
        "span": [chunk.start, chunk.end],
        "text": chunk.text,
        "score": chunk.score,
    }
