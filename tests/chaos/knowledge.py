"""What agents are to know afterwards, and whether they do: documents in chunks, facts, summaries of sessions."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import batched

import asyncpg
import orjson
from agent_service.embedding import passage_text
from fakes.ollama import Received

from chaos.checker import FINAL, Verdict
from chaos.fleet import Fleet
from chaos.script import ANSWER, SUMMARY

MODEL = "passages"  # it embeds


def file_text(number: int, *, paragraphs: int) -> bytes:
    """A document of Markdown no paragraph of which is in another one."""
    lines = [f"# Document {number}"]
    for n in range(paragraphs):
        words = " ".join(f"w{number}x{n}y{m}" for m in range(12))
        lines.append(f"## Part {n}\n\nParagraph {n} of document {number}: {words}.")
    return "\n\n".join(lines).encode()


async def check_documents(
    verdict: Verdict,
    fleet: Fleet,
    *,
    names: Sequence[str],
    disturbed: str,
    peaceful: str,
    requests: Sequence[Received],
) -> int:
    """Compares the documents of both collections by name, and counts for each of the first one's chunks how often it
    was embedded (`requests`). How many chunks these are."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        rows = await connection.fetch(
            """
            SELECT collections.name AS collection, documents.name, documents.task_id, documents.ready_at, chunks.number,
                chunks.text, chunks.headings, chunks.span_start, chunks.span_end,
                (SELECT count(*) FROM chunk_vectors WHERE chunk_id = chunks.id) AS vectors
            FROM documents
            JOIN collections ON collections.id = documents.collection_id
            JOIN chunks ON chunks.document_id = documents.id
            ORDER BY chunks.number
            """
        )
        attempts = await connection.fetch("SELECT task_id, outcome FROM task_attempts")
    finally:
        await connection.close()
    chunks: dict[tuple[str, str], list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        chunks[row["collection"], row["name"]].append(row)
    cut = Counter(row["task_id"] for row in attempts if row["outcome"] not in FINAL)
    embedded = Counter(text for request in requests for text in request.body["input"])
    for name in names:
        got, expected = chunks[disturbed, name], chunks[peaceful, name]
        if not expected or [_content(row) for row in got] != [_content(row) for row in expected]:
            verdict.chunks_wrong.append(f"{name}: {len(got)} chunks, {len(expected)} in peace")
        verdict.chunks_wrong += [
            f"{name} {row['number']}: {row['vectors']} vectors, ready at {row['ready_at']}"
            for row in got
            if row["vectors"] != 1 or row["ready_at"] is None
        ]
        for row in got:
            headings = orjson.loads(row["headings"])
            times = embedded[passage_text(MODEL, row["text"], document_name=name, headings=headings)]
            if not 1 <= times <= 1 + cut[row["task_id"]]:
                verdict.embedded_twice.append(f"{name} {row['number']}: {times} times, {cut[row['task_id']]} cut off")
    return sum(len(chunks[disturbed, name]) for name in names)


def _content(row: asyncpg.Record) -> tuple[object, ...]:
    return tuple(row[name] for name in ("number", "text", "headings", "span_start", "span_end"))


async def check_facts(verdict: Verdict, fleet: Fleet, told: Mapping[str, Mapping[str, str]]) -> int:
    """Each fact of `told`, by user the fact to the task that told it, is there once, and no other. How many runs said
    that they could not keep theirs."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        rows = await connection.fetch("SELECT subject, content FROM memories WHERE superseded_at IS NULL")
        failed = await connection.fetch(
            "SELECT task_id FROM task_logs WHERE context->>'code' = 'memory_failed' AND message LIKE '%kept%'"
        )
    finally:
        await connection.close()
    excused = {str(row["task_id"]) for row in failed}
    kept = Counter((row["subject"], row["content"]) for row in rows)
    for user, facts in told.items():
        for content, task_id in facts.items():
            if kept[user, content] == 0 and task_id not in excused:
                verdict.facts_lost.append(f"{user}: {content}")
    expected = {(user, content) for user, facts in told.items() for content in facts}
    verdict.facts_doubled += [f"{key}: {count}" for key, count in kept.items() if count > 1 or key not in expected]
    return len(excused)


async def check_recalls(verdict: Verdict, fleet: Fleet, kept: Mapping[str, str]) -> None:
    """Each run of `kept`, by its task the fact that it remembered, was then shown that fact when it recalled."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        rows = await connection.fetch("SELECT id, output ->> 'text' AS text FROM tasks WHERE id = ANY($1)", list(kept))
    finally:
        await connection.close()
    texts = {str(row["id"]): row["text"] or "" for row in rows}
    verdict.facts_not_recalled += [
        f"{task_id}: {content}" for task_id, content in kept.items() if f"- {content}" not in texts.get(task_id, "")
    ]


async def check_sessions(verdict: Verdict, fleet: Fleet, said: Mapping[str, Sequence[str]]) -> None:
    """Each session has all that was said in it, once, each answer after its question, and a summary."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        rows = await connection.fetch("SELECT id, summary, session_data::text FROM sessions")
    finally:
        await connection.close()
    sessions = {str(row["id"]): row for row in rows}
    for session_id, prompts in said.items():
        session = sessions[session_id]
        turns = [(turn["role"], turn["content"]) for turn in orjson.loads(session["session_data"])["turns"]]
        # A run that was cut off may end after one that began later.
        whole = [(("user", prompt), ("assistant", ANSWER)) for prompt in sorted(prompts)]
        if sorted(batched(turns, 2)) != whole:
            verdict.turns_lost.append(f"{session_id}: {turns}")
        if session["summary"] != SUMMARY:
            verdict.summaries_lost.append(f"{session_id}: {session['summary']!r}")
