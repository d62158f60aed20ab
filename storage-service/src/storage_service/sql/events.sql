-- name: append_events
-- Fourteen arrays, one for each column, an event in each place. Returns how many were new.
WITH stored AS (
    INSERT INTO task_logs (
        id, task_id, agent_id, attempt, kind, level, message, context, timestamp, traceparent,
        stream_id, stream_ms, stream_seq, owner
    )
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
        $9::timestamptz[], $10::text[], $11::text[], $12::bigint[], $13::bigint[],
        $14::text[]
    )
    ON CONFLICT DO NOTHING
    RETURNING stream_id
)
SELECT count(*)::integer AS stored_count FROM stored;

-- name: list_events_ascending
-- $1 limit; $2, $3 and $4, $5 the place (ms, seq) after and before which to look, or NULL; then, each or NULL, one and
-- several of: $6, $7 task ids, $8, $9 agent ids, $10, $11 levels; $12 kinds, $13 a pattern for LIKE, $14 since,
-- $15 until, $16 and $17 the keys and values of context; $18 bytes. One value has a parameter of its own, since only
-- `=` lets an index give the order. `found` is how many rows there are within the limit; those whose predecessors fill
-- the bytes are left out. $19 how many rows that no index finds are looked at, or NULL: the last one of those is there
-- in any case, and `matches` tells whether it belongs to the page.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(message) + octet_length(context::text)) OVER (
            ORDER BY stream_ms, stream_seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM (
            SELECT *, row_number() OVER (ORDER BY stream_ms, stream_seq) AS number
            FROM task_logs
            WHERE ($2::bigint IS NULL OR (stream_ms, stream_seq) > ($2, $3::bigint))
              AND ($4::bigint IS NULL OR (stream_ms, stream_seq) < ($4, $5::bigint))
              AND ($6::uuid IS NULL OR task_id = $6)
              AND ($7::uuid[] IS NULL OR task_id = ANY ($7))
              AND ($8::uuid IS NULL OR agent_id = $8)
              AND ($9::uuid[] IS NULL OR agent_id = ANY ($9))
              AND ($10::text IS NULL OR level = $10)
              AND ($11::text[] IS NULL OR level = ANY ($11))
              AND ($14::timestamptz IS NULL OR timestamp >= $14)
              AND ($15::timestamptz IS NULL OR timestamp < $15)
            ORDER BY stream_ms, stream_seq
            LIMIT $19::bigint
        ) AS looked_at
        CROSS JOIN LATERAL (
            SELECT
                ($12::text[] IS NULL OR kind = ANY ($12))
                AND ($13::text IS NULL OR message ILIKE $13)
                AND ($16::text[] IS NULL OR NOT EXISTS (
                    SELECT FROM unnest($16, $17::text[]) AS wanted (key, value)
                    WHERE context ->> wanted.key IS DISTINCT FROM wanted.value
                )) AS matches
        ) AS compared
        WHERE matches OR number = $19::bigint
        ORDER BY stream_ms, stream_seq
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $18::bigint
ORDER BY stream_ms, stream_seq;

-- name: list_events_descending
-- As list_events_ascending, the newest first.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(message) + octet_length(context::text)) OVER (
            ORDER BY stream_ms DESC, stream_seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM (
            SELECT *, row_number() OVER (ORDER BY stream_ms DESC, stream_seq DESC) AS number
            FROM task_logs
            WHERE ($2::bigint IS NULL OR (stream_ms, stream_seq) > ($2, $3::bigint))
              AND ($4::bigint IS NULL OR (stream_ms, stream_seq) < ($4, $5::bigint))
              AND ($6::uuid IS NULL OR task_id = $6)
              AND ($7::uuid[] IS NULL OR task_id = ANY ($7))
              AND ($8::uuid IS NULL OR agent_id = $8)
              AND ($9::uuid[] IS NULL OR agent_id = ANY ($9))
              AND ($10::text IS NULL OR level = $10)
              AND ($11::text[] IS NULL OR level = ANY ($11))
              AND ($14::timestamptz IS NULL OR timestamp >= $14)
              AND ($15::timestamptz IS NULL OR timestamp < $15)
            ORDER BY stream_ms DESC, stream_seq DESC
            LIMIT $19::bigint
        ) AS looked_at
        CROSS JOIN LATERAL (
            SELECT
                ($12::text[] IS NULL OR kind = ANY ($12))
                AND ($13::text IS NULL OR message ILIKE $13)
                AND ($16::text[] IS NULL OR NOT EXISTS (
                    SELECT FROM unnest($16, $17::text[]) AS wanted (key, value)
                    WHERE context ->> wanted.key IS DISTINCT FROM wanted.value
                )) AS matches
        ) AS compared
        WHERE matches OR number = $19::bigint
        ORDER BY stream_ms DESC, stream_seq DESC
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $18::bigint
ORDER BY stream_ms DESC, stream_seq DESC;
