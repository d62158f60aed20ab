-- name: get_subscription
-- $1 name, which is the asking owner's own.
SELECT * FROM log_subscriptions WHERE name = $1 AND owner = acting_owner();

-- name: save_subscription
-- $1 id if it is new, $2 name, $3 filters or NULL to keep them, $4 last_seen_stream_id and $5 last_seen_timestamp, or
-- NULL to keep the place. The place only moves forward.
INSERT INTO log_subscriptions AS known (id, name, filters, last_seen_stream_id, last_seen_timestamp)
VALUES ($1, $2, coalesce($3::jsonb, '{}'), $4, $5)
ON CONFLICT (owner, name) DO UPDATE
SET filters = coalesce($3::jsonb, known.filters),
    (last_seen_stream_id, last_seen_timestamp) = (
        SELECT moved.stream_id, moved.seen_at
        FROM (VALUES ($4::text, $5::timestamptz), (known.last_seen_stream_id, known.last_seen_timestamp))
            AS moved (stream_id, seen_at)
        WHERE moved.stream_id IS NOT NULL
        ORDER BY split_part(moved.stream_id, '-', 1)::bigint DESC, split_part(moved.stream_id, '-', 2)::bigint DESC
        LIMIT 1
    )
RETURNING *;
