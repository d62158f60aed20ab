-- name: insert_agent
-- $1 id, $2 name, $3 description, $4 model_name, $5 config, $6 is_active. No row where the id is known.
INSERT INTO agents (id, name, description, model_name, config, is_active, queue)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, coalesce($5::jsonb ->> 'queue', 'runs'))
ON CONFLICT (id) DO NOTHING
RETURNING *;

-- name: get_agent
-- $1 id.
SELECT * FROM agents WHERE id = $1;

-- name: list_agents
-- $1 limit, $2 after this id or NULL, $3 is_active or NULL, $4 a pattern for LIKE or NULL, $5 bytes.
-- Those of Hearth's own are not listed.
-- `found` is how many rows there are within the limit; those whose predecessors fill the bytes are left out.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(config::text) + octet_length(description)) OVER (
            ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM agents
        WHERE queue <> 'documents'
          AND ($2::uuid IS NULL OR id < $2)
          AND ($3::boolean IS NULL OR is_active = $3)
          AND ($4::text IS NULL OR name ILIKE $4)
        ORDER BY id DESC
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $5::bigint
ORDER BY id DESC;

-- name: update_agent
-- $1 id, $2 name, $3 description, $4 model_name, $5 config, $6 is_active. Not one of Hearth's own.
UPDATE agents
SET name = $2, description = $3, model_name = $4, config = $5::jsonb, is_active = $6, updated_at = now(),
    queue = coalesce($5::jsonb ->> 'queue', 'runs')
WHERE id = $1 AND queue <> 'documents'
RETURNING *;

-- name: deactivate_agent
-- $1 id. Repeating it leaves updated_at alone. Not one of Hearth's own.
UPDATE agents
SET updated_at = CASE WHEN is_active THEN now() ELSE updated_at END, is_active = false
WHERE id = $1 AND queue <> 'documents'
RETURNING id;
