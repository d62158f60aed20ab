-- name: insert_key
-- $1 id, $2 prefix, $3 digest, $4 name, $5 owner, $6 scopes, $7 tasks_per_minute, $8 concurrent_runs, $9 tokens_per_day,
-- $10 expires_at; the last four or NULL. No row where the id or the prefix is known.
INSERT INTO api_keys (
    id, prefix, digest, name, owner, scopes, tasks_per_minute, concurrent_runs, tokens_per_day, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: get_key
-- $1 prefix. That it is used is noted once a minute.
WITH used AS (
    UPDATE api_keys
    SET last_used_at = now()
    WHERE prefix = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
)
SELECT *, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS is_valid FROM api_keys WHERE prefix = $1;

-- name: list_keys
-- $1 limit, $2 after this id or NULL. The newest first.
SELECT * FROM api_keys WHERE $2::uuid IS NULL OR id < $2 ORDER BY id DESC LIMIT $1;

-- name: revoke_key
-- $1 prefix. A repetition keeps the first time.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE prefix = $1 RETURNING *;

-- name: has_keys
SELECT EXISTS (SELECT FROM api_keys) AS has_keys;

-- name: insert_ticket
-- $1 digest, $2 what it is for, $3 lifetime. Those whose time is over go.
WITH gone AS (
    DELETE FROM tickets
    WHERE digest IN (SELECT digest FROM tickets WHERE expires_at < now() LIMIT 1000 FOR UPDATE SKIP LOCKED)
)
INSERT INTO tickets (digest, granted, expires_at) VALUES ($1, $2, now() + $3::interval) ON CONFLICT DO NOTHING;

-- name: take_ticket
-- $1 digest. One row for the first who takes it in time.
DELETE FROM tickets WHERE digest = $1 RETURNING granted, expires_at > now() AS is_valid;

-- name: append_actions
-- Arrays with an action in each place: $1 at, $2 actor, $3 owner, $4 action, $5 target, $6 status, $7 code, $8 address;
-- $9 how long they are kept. Some of those that are kept no longer go: more than come.
WITH gone AS (
    DELETE FROM actions
    WHERE id IN (
        SELECT id FROM actions WHERE at < now() - $9::interval ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO actions (at, actor, owner, action, target, status, code, address)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::text[]
);

-- name: list_actions
-- $1 limit, $2 before this id or NULL, $3 actor or NULL.
SELECT *
FROM actions
WHERE ($2::bigint IS NULL OR id < $2) AND ($3::text IS NULL OR actor = $3)
ORDER BY id DESC
LIMIT $1;
