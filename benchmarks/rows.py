"""Rows of runs that have ended, made within PostgreSQL: `tasks` and what belongs to them, and `task_logs`.

Each task has ten events, one of a hundred agents, of which some have twenty times as many tasks as others, and
stands among a hundred that ran at the same time. One in twenty warns, one in a thousand fails. Words are as often used
as words are.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

EVENTS_PER_TASK = 10
BATCH = 100_000  # events

FUNCTIONS = """
CREATE FUNCTION pg_temp.task_id(task bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('019a0000-0000-7000-8000-' || lpad(to_hex(task), 12, '0'))::uuid;

CREATE FUNCTION pg_temp.agent_of(task bigint, agents uuid[]) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN agents[1 + floor(cardinality(agents) * ((hashint8(task) & 2147483647) / 2147483648.0) ^ 2)::integer];

-- In milliseconds, from 2026-01-01 on: three events come every ten.
CREATE FUNCTION pg_temp.moment(event bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 1767225600000 + event / 3 * 10;
"""

# $1 the first task, $2 the one after the last, $3 ids of agents.
TASKS = """
INSERT INTO tasks (
    id, agent_id, status, input, output, error_code, error_message, max_retries, attempt,
    created_at, started_at, completed_at, request_hash, traceparent
)
SELECT
    pg_temp.task_id(task), pg_temp.agent_of(task, $3::uuid[]),
    CASE task % 1000 WHEN 7 THEN 'failed' ELSE 'completed' END,
    '{"prompt": "What became of the order?"}',
    CASE WHEN task % 1000 <> 7 THEN '{"text": "It was sent yesterday."}'::jsonb END,
    CASE task % 1000 WHEN 7 THEN 'model_timeout' END,
    CASE task % 1000 WHEN 7 THEN 'The model did not answer in time.' END,
    3, 1, at, at, at + interval '3 seconds', md5(task::text), '00-' || md5(task::text) || '-0123456789abcdef-01'
FROM (
    SELECT task, to_timestamp(pg_temp.moment(task * 10) / 1000.0) AS at
    FROM generate_series($1::bigint, $2::bigint - 1) AS task
) AS made
"""
ATTEMPTS = """
INSERT INTO task_attempts (task_id, attempt, worker_id, started_at, ended_at, outcome)
SELECT id, 1, 'worker', started_at, completed_at, status
FROM tasks
WHERE id >= pg_temp.task_id($1) AND id < pg_temp.task_id($2)
"""
HISTORIES = """
INSERT INTO task_histories (task_id, agent)
SELECT tasks.id, to_jsonb(agents)
FROM tasks
JOIN agents ON agents.id = agent_id
WHERE tasks.id >= pg_temp.task_id($1) AND tasks.id < pg_temp.task_id($2)
"""
# $1 the first event, $2 the one after the last, $3 ids of agents.
EVENTS = """
INSERT INTO task_logs (
    id, task_id, agent_id, attempt, kind, level, message, context, timestamp, traceparent,
    stream_id, stream_ms, stream_seq
)
SELECT
    gen_random_uuid(), pg_temp.task_id(task), pg_temp.agent_of(task, $3::uuid[]), 1,
    (
        ARRAY['status', 'step', 'message', 'tool_call', 'tool_result', 'step', 'usage', 'log', 'message', 'status']
    )[place],
    CASE
        WHEN place = 8 AND task % 20 = 3 THEN 'warning'
        WHEN place = 10 AND task % 1000 = 7 THEN 'error'
        ELSE 'info'
    END,
    CASE place
        WHEN 1 THEN 'running'
        WHEN 2 THEN 'act started'
        WHEN 4 THEN 'search {"query":"' || words || '"}'
        WHEN 6 THEN 'act finished'
        WHEN 7 THEN length(words) || ' prompt tokens, 45 completion tokens'
        WHEN 8 THEN 'Looked at order ' || left(md5('order ' || task), 12)
        WHEN 10 THEN CASE task % 1000 WHEN 7 THEN 'The model did not answer in time.' ELSE 'completed' END
        ELSE words
    END,
    CASE place
        WHEN 1 THEN '{"status": "running"}' WHEN 10 THEN '{"status": "completed"}'
        WHEN 3 THEN '{"role": "assistant"}' WHEN 9 THEN '{"role": "assistant"}'
        WHEN 4 THEN '{"tool": "search"}' WHEN 5 THEN '{"tool": "search"}'
        ELSE '{"step": "act"}'
    END::jsonb,
    to_timestamp(ms / 1000.0), '00-' || md5(task::text) || '-0123456789abcdef-01', ms || '-' || event % 3, ms, event % 3
FROM (
    SELECT
        event, place, event / 1000 * 100 + event % 100 AS task, pg_temp.moment(event) AS ms,
        (
            SELECT string_agg('w' || floor(20000 * random() ^ 4)::integer, ' ')
            FROM generate_series(1, (ARRAY[0, 0, 12, 4, 25, 0, 8, 0, 20, 0])[place])
        ) AS words
    FROM generate_series($1::bigint, $2::bigint - 1) AS event, LATERAL (SELECT event % 1000 / 100 + 1 AS place)
) AS made
"""
# Those that no constraint needs.
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index
WHERE indrelid = ANY ($1::text[]::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
TABLES = ("tasks", "task_attempts", "task_histories", "task_logs")


def task_id(number: int) -> str:
    """The id of this task, counted from 0."""
    return f"019a0000-0000-7000-8000-{number:012x}"


def order_of(number: int) -> str:
    """What this task's events name and no other's do."""
    return hashlib.md5(f"order {number}".encode(), usedforsecurity=False).hexdigest()[:12]


class Rows:
    """What there is, and more of it."""

    def __init__(self, connection: asyncpg.Connection, agent_ids: Sequence[str]) -> None:
        self._connection = connection
        self._agent_ids = list(agent_ids)
        self.events = 0

    @property
    def tasks(self) -> int:
        """How many there are."""
        return self.events // EVENTS_PER_TASK

    async def prepare(self) -> None:
        """Makes what the statements need."""
        await self._connection.execute(FUNCTIONS)
        await self._connection.execute("SET maintenance_work_mem = '1GB'")

    async def grow(self, events: int) -> None:
        """Brings `task_logs` to so many events, a multiple of 1,000, and the other tables to the tasks of those."""
        first = self.tasks
        async with self._without_indexes():
            for start in range(self.events, events, BATCH):
                await self._connection.execute(EVENTS, start, min(start + BATCH, events), self._agent_ids)
            self.events = events
            await self._connection.execute(TASKS, first, self.tasks, self._agent_ids)
            for statement in (ATTEMPTS, HISTORIES):
                await self._connection.execute(statement, first, self.tasks)
        await self._connection.execute("VACUUM ANALYZE")
        await self._connection.execute("CHECKPOINT")

    @asynccontextmanager
    async def _without_indexes(self) -> AsyncIterator[None]:
        """They are made again at the end, which takes a tenth of the time."""
        indexes = await self._connection.fetch(INDEXES, TABLES)
        for index in indexes:
            await self._connection.execute(f"DROP INDEX {index['name']}")
        yield
        for index in indexes:
            await self._connection.execute(index["definition"])
