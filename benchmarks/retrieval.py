"""Search by vectors against exact search: `python benchmarks/retrieval.py [--chunks 100000] [--dimensions 384]`.

On a PostgreSQL server of its own, with storage-service's own code: how long the index takes to build, recall@10 against
the exact order, and the latency of each kind of search, without a filter and with one that keeps 1 % and 0.1 %.

The vectors are made, since embedding 100,000 texts takes hours on two cores: unit vectors around as many centres as
there are hundreds of chunks, and queries beside some of them. Real vectors lie together in much the same way, but the
recall on them may differ; the latency hardly does. The words of the texts follow Zipf's law.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
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
from storage_service.vector_indexes import VectorIndex, VectorIndexes

MODEL = "made"
CHUNKS_PER_DOCUMENT = 20
WORDS_PER_CHUNK, VOCABULARY = 120, 20_000
BATCH = 2000
TOP = 10
# Which share of the documents each filter keeps.
FILTERS: dict[str, dict[str, Any]] = {"none": {}, "1 %": {"hundredth": 0}, "0.1 %": {"thousandth": 0}}


def main() -> None:
    """Runs the benchmark, and prints a table and a line of JSON."""
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
    sys.stdout.write(f"{table(result)}\n{json.dumps(result)}\n")


async def measure(url: str, chunks: int, dimensions: int, queries: int) -> dict[str, Any]:
    """Loads the chunks, builds the index and searches."""
    settings = StorageSettings(database_url=url, database_call_seconds=600)
    await migrate(settings)
    choice = np.random.default_rng(1)
    collection_id = new_id()
    started = time.perf_counter()
    asked = await load(url, collection_id, chunks=chunks, dimensions=dimensions, queries=queries, choice=choice)
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
        "searches": {},
    }
    async with open_database(settings) as database:
        searches = Searches(database, indexes)
        exactly = load_queries("search")["nearest_chunks_exactly"]
        for name, where in FILTERS.items():
            found: list[list[int]] = []
            exact: list[list[int]] = []

            async def nearest(query: EmbeddedQuery, where: dict[str, Any] = where, into: Any = found) -> None:
                into.append(list(await searches.nearest(query, where=where, limit=TOP)))

            async def in_order(query: EmbeddedQuery, where: dict[str, Any] = where, into: Any = exact) -> None:
                arguments = (text_of(query.values), MODEL, [collection_id], where, TOP)
                into.append([row["id"] for row in await database.fetch(exactly, *arguments)])

            async def hybrid(query: EmbeddedQuery, where: dict[str, Any] = where) -> None:
                text = " ".join(f"w{word}" for word in choice.zipf(1.2, 6) % VOCABULARY)
                await searches.find(
                    Search(text=text, embedded=(query,), collection_ids=(collection_id,), limit=TOP, filter=where)
                )

            embedded = [
                EmbeddedQuery(model=MODEL, values=tuple(vector), collection_ids=(collection_id,)) for vector in asked
            ]
            figures = {
                "vector": await timed(nearest, embedded),
                "exact": await timed(in_order, embedded),
                "hybrid": await timed(hybrid, embedded),
            }
            shares = [len(set(f) & set(e)) / len(e) for f, e in zip(found, exact, strict=True) if e]
            result["searches"][name] = {
                "recall@10": round(statistics.mean(shares), 4),
                "fewest_results": min(map(len, found)),
                **figures,
            }
    return result


async def timed(search: Callable[[EmbeddedQuery], Awaitable[None]], queries: list[EmbeddedQuery]) -> dict[str, float]:
    """Milliseconds of each search, one after the other."""
    taken = []
    for query in queries:
        started = time.perf_counter()
        await search(query)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return {"p50_ms": round(taken[len(taken) // 2], 2), "p95_ms": round(taken[int(len(taken) * 0.95)], 2)}


async def load(
    url: str, collection_id: str, *, chunks: int, dimensions: int, queries: int, choice: np.random.Generator
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
                        json.dumps({"hundredth": n % 100, "thousandth": n % 1000}),
                        task_id,
                        count,
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
                list(texts(count, choice)),
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


def texts(count: int, choice: np.random.Generator) -> Iterator[str]:
    """Texts whose words are as often used as words are."""
    for words in choice.zipf(1.2, (count, WORDS_PER_CHUNK)) % VOCABULARY:
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
        f"{result['chunks']} chunks of {result['dimensions']} dimensions; index built in {result['index_seconds']} s",
        "",
        "| filter keeps | recall@10 | fewest results | vector p50/p95 ms | exact p50/p95 ms | hybrid p50/p95 ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in result["searches"].items():
        times = [f"{found[kind]['p50_ms']} / {found[kind]['p95_ms']}" for kind in ("vector", "exact", "hybrid")]
        kept = "all" if name == "none" else name
        lines.append(f"| {kept} | {found['recall@10']} | {found['fewest_results']} | {' | '.join(times)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
