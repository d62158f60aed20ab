"""How well search finds the passage that answers a question: `python benchmarks/retrieval_quality.py [--file FILE]`.

The questions and passages are XQuAD's English part (CC BY-SA 4.0, https://github.com/google-deepmind/xquad): 240
passages of 48 articles of Wikipedia, five of each, so that wrong passages of the same article are near; every eighth of
its 1,190 questions, as each takes its time to embed. Each question has one right passage: the one it was written for.
Its authors saw that passage, so questions share more words with it than those of people who look for something; that
favours full text.

Each paragraph is a chunk, embedded as agent-service does it, after its article's name. Search is storage-service's.
"""

import argparse
import asyncio
import hashlib
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from agent_service.embedding import passage_text, query_text
from hearth_runtime.identifiers import new_id
from model_host import HostedModel, embedded_server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.postgres_server import PostgresServer
from storage_service.chunks import text_of
from storage_service.database import open_database
from storage_service.migrate import migrate
from storage_service.search import EmbeddedQuery, Search, Searches
from storage_service.settings import StorageSettings
from storage_service.vector_indexes import VectorIndexes

URL = "https://raw.githubusercontent.com/google-deepmind/xquad/master/xquad.en.json"
SHA256 = "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29"
MODEL = "multilingual-e5-small"
EVERY, TOP = 8, 10
RESULTS = Path(__file__).parent / "results" / "retrieval_quality.json"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A paragraph of an article."""

    article: str
    number: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, and the index of the passage that answers it."""

    text: str
    answer: int


def main() -> None:
    """Runs the benchmark, prints a table and writes the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--file", type=Path, help=f"xquad.en.json; else it is downloaded: {URL}")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/hearth-benchmarks").expanduser())
    options = parser.parse_args()
    passages, questions = read(options.file, options.cache)
    server = PostgresServer()
    server.start()
    try:
        result = asyncio.run(measure(server.get_uri(), passages, questions, options.cache / "answers"))
    finally:
        server.remove()
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(table(result))


def read(file: Path | None, cache: Path) -> tuple[list[Passage], list[Question]]:
    """The passages and questions of the set, which is downloaded once where no file is given."""
    kept = file or cache / "xquad.en.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(httpx.get(URL, timeout=60).raise_for_status().content)
    data = kept.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{kept} is not the file that was measured: its SHA-256 is not {SHA256}. Delete it.")
    passages: list[Passage] = []
    questions: list[Question] = []
    for article in json.loads(data)["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            questions += [Question(text=qa["question"], answer=len(passages)) for qa in paragraph["qas"]]
            passages.append(
                Passage(article=article["title"].replace("_", " "), number=number, text=paragraph["context"])
            )
    return passages, questions[::EVERY]


async def measure(url: str, passages: Sequence[Passage], questions: Sequence[Question], cache: Path) -> dict[str, Any]:
    """Embeds what is not in the cache, loads the passages, and asks each question in each way."""
    with embedded_server() as transport:
        async with httpx.AsyncClient(transport=transport, base_url="http://models", timeout=600) as client:
            model = HostedModel(client, model="", embedding_model=MODEL, native=False, cache=cache)
            started = time.perf_counter()
            vectors = await model.embed(
                [passage_text(MODEL, p.text, document_name=p.article, headings=()) for p in passages]
            )
            asked = await model.embed([query_text(MODEL, question.text) for question in questions])
            embed_seconds = time.perf_counter() - started
    settings = StorageSettings(database_url=url)
    await migrate(settings)
    collection_id = new_id()
    ids = await load(url, collection_id, passages, vectors)
    hits: dict[str, list[int | None]] = {"full text": [], "vectors": [], "hybrid": []}
    async with open_database(settings) as database:
        searches = Searches(database, VectorIndexes(settings))
        for question, vector in zip(questions, asked, strict=True):
            embedded = (EmbeddedQuery(model=MODEL, values=tuple(vector), collection_ids=(collection_id,)),)
            ways = {"full text": (question.text, ()), "vectors": ("", embedded), "hybrid": (question.text, embedded)}
            for name, (text, by_vector) in ways.items():
                search = Search(text=text, embedded=by_vector, collection_ids=(collection_id,), limit=TOP, filter={})
                found = [ids[chunk.document_id, chunk.number] for chunk in await searches.find(search)]
                hits[name].append(found.index(question.answer) if question.answer in found else None)
    return {
        "set": "XQuAD, English",
        "sha256": SHA256,
        "model": MODEL,
        "passages": len(passages),
        "questions": len(questions),
        "embed_seconds": round(embed_seconds, 1),
        "searches": {name: scores(ranks) for name, ranks in hits.items()},
    }


def scores(ranks: Sequence[int | None]) -> dict[str, float]:
    """The shares of questions whose passage is among the first, and nDCG@10; ranks count from 0."""
    shares = {f"recall@{k}": statistics.mean(rank is not None and rank < k for rank in ranks) for k in (1, 3, 5, 10)}
    gain = statistics.mean(0.0 if rank is None else 1 / math.log2(rank + 2) for rank in ranks)
    return {name: round(value, 4) for name, value in {**shares, "nDCG@10": gain}.items()}


async def load(
    url: str, collection_id: str, passages: Sequence[Passage], vectors: Sequence[Sequence[float]]
) -> dict[tuple[str, int], int]:
    """Inserts articles as documents, passages as chunks; gives the passages' indexes by document and number."""
    connection = await asyncpg.connect(url)
    documents = {article: new_id() for article in dict.fromkeys(passage.article for passage in passages)}
    try:
        await connection.execute(
            "INSERT INTO collections (id, name, description, embedding_model, chunk_tokens)"
            " VALUES ($1, 'c', '', $2, 512)",
            collection_id,
            MODEL,
        )
        task_id = new_id()
        await connection.execute(
            "INSERT INTO tasks (id, agent_id, status, input, max_retries, request_hash, traceparent, completed_at)"
            " SELECT $1, id, 'completed', '{}', 0, '', '', now() FROM agents LIMIT 1",
            task_id,
        )
        await connection.executemany(
            "INSERT INTO documents (id, collection_id, name, media_type, size_bytes, content_hash, metadata, task_id,"
            " chunk_count, ready_at) VALUES ($1, $2, $3, 'text/plain', 1, $4, '{}', $5, 5, now())",
            [(id_, collection_id, article, str(id_), task_id) for article, id_ in documents.items()],
        )
        for passage, vector in zip(passages, vectors, strict=True):
            await connection.execute(
                "WITH chunk AS (INSERT INTO chunks (document_id, number, text, headings, span_start, span_end)"
                " VALUES ($1, $2, $3, '[]', 0, 1) RETURNING id)"
                " INSERT INTO chunk_vectors (chunk_id, model, vector) SELECT id, $4, $5::text::vector FROM chunk",
                documents[passage.article],
                passage.number,
                passage.text,
                MODEL,
                text_of(vector),
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return {(documents[passage.article], passage.number): n for n, passage in enumerate(passages)}


def table(result: dict[str, Any]) -> str:
    """For people."""
    names = list(result["searches"]["hybrid"])
    lines = [
        f"{result['set']}: {result['questions']} questions, {result['passages']} passages, {result['model']}",
        "",
        f"| search by | {' | '.join(names)} |",
        f"| --- |{' --- |' * len(names)}",
    ]
    for way, figures in result["searches"].items():
        lines.append(f"| {way} | {' | '.join(f'{figures[name]:.3f}' for name in names)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
