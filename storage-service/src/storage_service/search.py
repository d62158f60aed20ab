"""Search: chunks by full text and by vectors, fused by reciprocal rank."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import Record
from hearth_runtime.documents import FoundChunk

from storage_service.chunks import TABLE, other_length, text_of
from storage_service.database import Database
from storage_service.queries import load_queries
from storage_service.vector_indexes import VectorIndex, VectorIndexes, typed

SQL = load_queries("search")

# Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods, 2009.
RANK_CONSTANT = 60
# How deep each of the rankings goes that are fused.
DEPTH_FACTOR, LEAST_DEPTH = 5, 50
# A word that more of the chunks have is looked for only where there is no rarer one.
COMMON_SHARE = 0.02
# Among so many chunks the exact order takes tens of milliseconds and misses nothing, where the index with a filter may
# take longer and miss a third (benchmarks/retrieval.py: with one that keeps 1,000 of 100,000, twenty times as long).
FEW_CHUNKS = 12_000


@dataclass(frozen=True, kw_only=True)
class EmbeddedQuery:
    """A query as one model embeds it, for the collections that are searched by that model."""

    model: str
    values: tuple[float, ...]
    collection_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for: by `text` where there is one, by vectors where there are some, within `collection_ids`
    and documents whose metadata contain `filter`."""

    text: str
    embedded: tuple[EmbeddedQuery, ...]
    collection_ids: tuple[str, ...]
    limit: int
    filter: dict[str, Any]


def fused(rankings: Iterable[Sequence[int]]) -> dict[int, float]:
    """The score of each id: 1 / (60 + rank), ranks counting from 1, summed over the rankings that have it."""
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, chunk_id in enumerate(ranking, start=1):
            scores[chunk_id] += 1 / (RANK_CONSTANT + rank)
    return dict(scores)


class Searches:
    """Searches the chunks of ready documents."""

    def __init__(self, database: Database, indexes: VectorIndexes, *, few_chunks: int = FEW_CHUNKS) -> None:
        self._database = database
        self._indexes = indexes
        self._few_chunks = few_chunks

    async def find(self, search: Search) -> list[FoundChunk]:
        """The chunks that answer best, at most `limit`, the best first."""
        depth = max(search.limit * DEPTH_FACTOR, LEAST_DEPTH)
        by_text: dict[int, float] = {}
        if search.text:
            rows = await self._database.fetch(
                SQL["matching_chunks"], search.text, list(search.collection_ids), search.filter, depth, COMMON_SHARE
            )
            by_text = {row["id"]: row["score"] for row in rows}
        rankings = [list(by_text)]
        by_vector: dict[int, float] = {}
        for query in search.embedded:
            scores = await self.nearest(query, where=search.filter, limit=depth)
            rankings.append(list(scores))
            by_vector |= scores
        scores = fused(rankings)
        best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[: search.limit]
        rows = await self._database.fetch(SQL["found_chunks"], best) if best else []
        found = {
            row["id"]: _found(row, scores[row["id"]], by_vector.get(row["id"]), by_text.get(row["id"])) for row in rows
        }
        # One that was deleted meanwhile is not there.
        return [found[chunk_id] for chunk_id in best if chunk_id in found]

    async def nearest(self, query: EmbeddedQuery, *, where: dict[str, Any], limit: int) -> dict[int, float]:
        """The nearest chunks and their cosine similarities, the nearest first: in the exact order where the collections
        and the filter leave few, else by the model's index where there is one.

        Raises InvalidArgument where the model's vectors had another length before.
        """
        dimensions = len(query.values)
        known = await self._database.fetchrow(SQL["find_dimensions"], query.model)
        if known is None:
            return {}
        if known["dimensions"] != dimensions:
            raise other_length(query.model, {known["dimensions"], dimensions})
        # An index may have been lost, or never built, as after restoring a database.
        self._indexes.ask_for(VectorIndex(table=TABLE, model=query.model, dimensions=dimensions))
        arguments = (text_of(query.values), query.model, list(query.collection_ids), where, limit)
        (searched,) = await self._database.fetch(
            SQL["has_few_chunks"], list(query.collection_ids), where, self._few_chunks
        )
        rows: Sequence[Record] = ()
        if not searched["has_few"]:
            async with self._database.transaction() as transaction:
                await transaction.fetchrow(SQL["tune_scan"], limit)
                rows = await transaction.fetch(typed(SQL["nearest_chunks"], dimensions), *arguments)
        if len(rows) < limit:
            # There are few; or the scan of the index gave up on a filter that lets little pass.
            rows = await self._database.fetch(SQL["nearest_chunks_exactly"], *arguments)
        return {row["id"]: row["score"] for row in rows}


def _found(row: Record, score: float, vector_score: float | None, text_score: float | None) -> FoundChunk:
    return FoundChunk(
        document_id=str(row["document_id"]),
        document_name=row["document_name"],
        collection=row["collection"],
        number=row["number"],
        text=row["text"],
        headings=tuple(row["headings"]),
        page=row["page"],
        start=row["span_start"],
        end=row["span_end"],
        metadata=row["metadata"],
        score=score,
        vector_score=vector_score,
        text_score=text_score,
    )
