"""Search by vectors against exact search: `python benchmarks/retrieval.py [--chunks 100000] [--dimensions 384]`.

On a PostgreSQL server of its own, which doesn't wait for the disk, with storage-service's own code: how long the index
takes to build, recall@10 against the exact order, and the latency of each kind of search, without filter and with ones
that keep 10, 1 and 0.1 %. `vectors` is the search as it is; `index` always goes along the index.

The vectors are made, since embedding 100,000 texts takes hours on two cores: unit vectors around as many centres as
there are hundreds of chunks, and queries beside some of them. Real vectors lie together in much the same way, but the
recall on them may differ; the latency hardly does. The words of the texts follow Zipf's law. `large.py` has more of it.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
from hearth_runtime.identifiers import new_id

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.postgres_server import PostgresServer
from storage_service.chunks import text_of
from storage_service.database import open_database
from storage_service.migrate import migrate
from storage_service.queries import load_queries
from storage_service.search import EmbeddedQuery, Search, Searches
from storage_service.settings import StorageSettings
from storage_service.vector_indexes import VectorIndex, VectorIndexes, typed

MODEL = "made"
CHUNKS_PER_DOCUMENT = 20
WORDS_PER_CHUNK, VOCABULARY = 120, 20_000
# What an index of vectors takes for each number, with its links: it is built many times as fast where memory holds it.
INDEX_BYTES = 8
BATCH = 2000
TOP = 10
BREADTHS = (40, 80, 120, 200)  # of the scan of the index: hnsw.ef_search
RESULTS = Path(__file__).parent / "results" / "retrieval.json"
# Which share of the documents each filter keeps.
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "10 %": {"tenth": 0},
    "1 %": {"hundredth": 0},
    "0.1 %": {"thousandth": 0},
}


def main() -> None:
    """Runs the benchmark, prints tables and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    server = PostgresServer()
    server.start()
    try:
        result = asyncio.run(measure(server.get_uri(), options.chunks, options.dimensions, options.queries))
    finally:
        server.remove()
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(f"{table(result)}\n")


async def measure(
    url: str,
    chunks: int,
    dimensions: int,
    queries: int,
    *,
    words_per_chunk: int = WORDS_PER_CHUNK,
    filters: Sequence[str] = tuple(FILTERS),
    tuned: Sequence[str] = ("none",),
) -> dict[str, Any]:
    """Loads the chunks, builds the index and searches with these filters; with those in `tuned`, at each breadth too.
    Where the chunks have no words, there is no hybrid search."""
    load_before = os.getloadavg()[0]
    settings = StorageSettings(
        database_url=url,
        database_call_seconds=600,
        vector_index_mib=max(256, chunks * dimensions * INDEX_BYTES // 1024**2),
    )
    await migrate(settings)
    choice = np.random.default_rng(1)
    collection_id = new_id()
    started = time.perf_counter()
    asked = await load(
        url,
        collection_id,
        chunks=chunks,
        dimensions=dimensions,
        queries=queries,
        words_per_chunk=words_per_chunk,
        choice=choice,
    )
    load_seconds = time.perf_counter() - started

    indexes = VectorIndexes(settings)
    started = time.perf_counter()
    assert await indexes.build(VectorIndex(table="chunk_vectors", model=MODEL, dimensions=dimensions))
    result: dict[str, Any] = {
        "chunks": chunks,
        "dimensions": dimensions,
        "queries": queries,
        "load_seconds": round(load_seconds, 1),
        "index_seconds": round(time.perf_counter() - started, 1),
        "settings": {"m": 16, "ef_construction": 64, "vector_index_mib": settings.vector_index_mib},
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "postgresql_durable": False},
        "load_before": load_before,
        "searches": {},
    }
    embedded = [EmbeddedQuery(model=MODEL, values=tuple(vector), collection_ids=(collection_id,)) for vector in asked]
    async with open_database(settings) as database:
        searches = Searches(database, indexes)
        along_index = Searches(database, indexes, few_chunks=0)
        sql = load_queries("search")
        for name in filters:
            where = FILTERS[name]
            exact: list[list[int]] = []
            found: dict[str, list[list[int]]] = defaultdict(list)
            words = iter([query_words(choice) for _ in asked])

            async def in_order(query: EmbeddedQuery, where: dict[str, Any] = where, into: Any = exact) -> None:
                rows = await database.fetch(sql["nearest_chunks_exactly"], *arguments_of(query, where))
                into.append([row["id"] for row in rows])

            async def chosen(query: EmbeddedQuery, where: dict[str, Any] = where, into: Any = found) -> None:
                into["vectors"].append(list(await searches.nearest(query, where=where, limit=TOP)))

            async def by_index(query: EmbeddedQuery, where: dict[str, Any] = where, into: Any = found) -> None:
                into["index"].append(list(await along_index.nearest(query, where=where, limit=TOP)))

            async def hybrid(query: EmbeddedQuery, where: dict[str, Any] = where, words: Iterator[str] = words) -> None:
                await searches.find(
                    Search(
                        text=next(words), embedded=(query,), collection_ids=(collection_id,), limit=TOP, filter=where
                    )
                )

            figures = {"exact": await timed(in_order, embedded)}
            for way, search in (("vectors", chosen), ("index", by_index)):
                latency = await timed(search, embedded)
                figures[way] = {
                    "recall@10": recall(found[way], exact),
                    "fewest_results": min(map(len, found[way])),
                    **latency,
                }
            if words_per_chunk:
                figures["hybrid"] = await timed(hybrid, embedded)
            result["searches"][name] = figures
            for breadth in BREADTHS if name in tuned else ():
                way = f"ef_search {breadth}"

                async def at_breadth(
                    query: EmbeddedQuery,
                    breadth: int = breadth,
                    where: dict[str, Any] = where,
                    into: list[list[int]] = found[way],
                ) -> None:
                    async with database.transaction() as transaction:
                        await transaction.fetchrow(sql["tune_scan"], TOP)
                        await transaction.fetchrow(f"SELECT set_config('hnsw.ef_search', '{breadth}', true)")
                        nearest = typed(sql["nearest_chunks"], dimensions)
                        rows = await transaction.fetch(nearest, *arguments_of(query, where))
                    into.append([row["id"] for row in rows])

                latency = await timed(at_breadth, embedded)
                figures[way] = {
                    "recall@10": recall(found[way], exact),
                    "fewest_results": min(map(len, found[way])),
                    **latency,
                }
    result["load"] = {"before": result.pop("load_before"), "after": os.getloadavg()[0]}
    return result


def arguments_of(query: EmbeddedQuery, where: dict[str, Any]) -> tuple[Any, ...]:
    """What the SQL of a search by vectors takes."""
    return text_of(query.values), MODEL, list(query.collection_ids), where, TOP


def recall(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Which share of the exact results was found, in the mean over the queries that have some."""
    return round(statistics.mean(len(set(f) & set(e)) / len(e) for f, e in zip(found, exact, strict=True) if e), 4)


def query_words(choice: np.random.Generator) -> str:
    """Six words as often used as words are."""
    return " ".join(f"w{word}" for word in choice.zipf(1.2, 6) % VOCABULARY)


async def timed(search: Callable[[EmbeddedQuery], Awaitable[None]], queries: list[EmbeddedQuery]) -> dict[str, float]:
    """Milliseconds of the searches, one after the other, and how many there are in a second."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        await search(query)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return {
        "p50_ms": round(taken[len(taken) // 2], 2),
        "p99_ms": round(taken[int(len(taken) * 0.99)], 2),
        "per_second": round(len(taken) * 1000 / sum(taken), 1),
    }


async def load(
    url: str,
    collection_id: str,
    *,
    chunks: int,
    dimensions: int,
    queries: int,
    words_per_chunk: int,
    choice: np.random.Generator,
) -> list[list[float]]:
    """Inserts the documents with their chunks and vectors; gives vectors to search for."""
    centres = unit(choice.standard_normal((max(1, chunks // 100), dimensions)))
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO collections (id, name, description, embedding_model, chunk_tokens)"
            " VALUES ($1, 'c', '', $2, 256)",
            collection_id,
            MODEL,
        )
        task_id = new_id()
        await connection.execute(
            "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, completed_at)"
            " SELECT $1, id, 'completed', '{}', 0, '', '', now() FROM agents LIMIT 1",
            task_id,
        )
        for start in range(0, chunks, BATCH):
            count = min(BATCH, chunks - start)
            documents = [new_id() for _ in range(-(-count // CHUNKS_PER_DOCUMENT))]
            numbers = range(start // CHUNKS_PER_DOCUMENT, start // CHUNKS_PER_DOCUMENT + len(documents))
            await connection.executemany(
                "INSERT INTO documents (id, collection_id, name, media_type, size_bytes, content_hash, metadata,"
                " task_id, chunk_count, ready_at) VALUES ($1, $2, 'd', 'text/plain', 1, $3, $4, $5, $6, now())",
                [
                    (
                        id_,
                        collection_id,
                        id_,
                        json.dumps({"tenth": n % 10, "hundredth": n % 100, "thousandth": n % 1000}),
                        task_id,
                        CHUNKS_PER_DOCUMENT,
                    )
                    for id_, n in zip(documents, numbers, strict=True)
                ],
            )
            rows = await connection.fetch(
                "INSERT INTO chunks (document_id, number, text, headings, span_start, span_end)"
                " SELECT document_id, number, text, '[]', 0, 1"
                " FROM unnest($1::uuid[], $2::integer[], $3::text[]) AS given (document_id, number, text) RETURNING id",
                [documents[n // CHUNKS_PER_DOCUMENT] for n in range(count)],
                [n % CHUNKS_PER_DOCUMENT for n in range(count)],
                list(texts(count, words_per_chunk, choice)),
            )
            vectors = around(centres, count, choice)
            await connection.execute(
                "INSERT INTO chunk_vectors (chunk_id, model, vector)"
                " SELECT chunk_id, $1, vector::vector"
                " FROM unnest($2::bigint[], $3::text[]) AS given (chunk_id, vector)",
                MODEL,
                [row["id"] for row in rows],
                [text_of(vector) for vector in vectors.tolist()],
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return [[float(value) for value in vector] for vector in around(centres, queries, choice)]


def texts(count: int, length: int, choice: np.random.Generator) -> Iterator[str]:
    """Texts of so many words, which are as often used as words are."""
    for words in choice.zipf(1.2, (count, length)) % VOCABULARY:
        yield " ".join(f"w{word}" for word in words)


def around(centres: Any, count: int, choice: np.random.Generator) -> Any:
    """Unit vectors, each near one of the centres: their cosine similarity to it is about 0.8."""
    noise = unit(choice.standard_normal((count, centres.shape[1]))) * 0.75
    return unit(centres[choice.integers(0, len(centres), count)] + noise)


def unit(vectors: Any) -> Any:
    """The vectors with length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{result['chunks']} chunks of {result['dimensions']} dimensions, {result['queries']} queries; index built in"
        f" {result['index_seconds']} s; load {result['load']['before']:.1f} to {result['load']['after']:.1f}",
        "",
        "| filter keeps | search | recall@10 | fewest results | p50 ms | p99 ms | per second |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, ways in result["searches"].items():
        for way, found in ways.items():
            quality = f"{found.get('recall@10', '')} | {found.get('fewest_results', '')}"
            kept = "all" if name == "none" else name
            lines.append(
                f"| {kept} | {way} | {quality} | {found['p50_ms']} | {found['p99_ms']} | {found['per_second']} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
