-- name: put_checkpoints
-- $1 task_id, $2 attempt, then arrays with a checkpoint in each place: $3 namespace, $4 id, $5 parent_id or NULL, $6 type,
-- $7 data, $8 metadata. No row where the attempt is outdated.
-- The lock holds until this is committed: an attempt that ends meanwhile ends after it, or is seen to have ended.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND (status = 'running') IS TRUE FOR SHARE
)
INSERT INTO checkpoints (task_id, attempt, namespace, id, parent_id, type, data, metadata)
SELECT current.id, $2, given.*
FROM current, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::jsonb[]) AS given
ON CONFLICT (task_id, namespace, id) DO UPDATE
SET attempt = excluded.attempt, parent_id = excluded.parent_id, type = excluded.type, data = excluded.data,
    metadata = excluded.metadata
RETURNING TRUE;

-- name: put_writes
-- $1 task_id, $2 attempt, $3 namespace, $4 checkpoint_id, then arrays with a write in each place: $5 step_id, $6 idx,
-- $7 step_path, $8 channel, $9 type, $10 data; $11 bytes that a checkpoint's writes may have in all.
-- No row where the attempt is outdated, as in put_checkpoint; `fits` says whether the writes were stored.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
), given AS (
    SELECT *
    FROM unnest($5::text[], $6::integer[], $7::text[], $8::text[], $9::text[], $10::bytea[])
        AS given (step_id, idx, step_path, channel, type, data)
), known AS (
    SELECT step_id, idx, step_path, channel, data
    FROM checkpoint_writes
    WHERE task_id = $1 AND namespace = $3 AND checkpoint_id = $4
      AND (step_id, idx) NOT IN (SELECT step_id, idx FROM given)
), room AS (
    SELECT sum(octet_length(data) + octet_length(channel) + octet_length(step_id) + octet_length(step_path) + 32)
        <= $11::bigint AS fits
    FROM (
        SELECT step_id, step_path, channel, data FROM given
        UNION ALL
        SELECT step_id, step_path, channel, data FROM known
    ) AS all_of_them
), stored AS (
    INSERT INTO checkpoint_writes (
        task_id, namespace, checkpoint_id, step_id, idx, step_path, channel, type, data
    )
    SELECT
        current.id, $3, $4, given.step_id, given.idx, given.step_path, given.channel, given.type, given.data
    FROM current, given, room
    WHERE room.fits
    ON CONFLICT (task_id, namespace, checkpoint_id, step_id, idx) DO UPDATE
    SET step_path = excluded.step_path, channel = excluded.channel, type = excluded.type, data = excluded.data
    WHERE excluded.idx < 0
)
SELECT room.fits FROM current, room;

-- name: get_checkpoint
-- $1 task_id, $2 namespace, $3 id, or NULL for the last one. Ids are compared as Python does.
SELECT *
FROM checkpoints
WHERE task_id = $1 AND namespace = $2 AND ($3::text IS NULL OR id = $3)
ORDER BY id COLLATE "C" DESC
LIMIT 1;

-- name: list_writes
-- Three arrays with a checkpoint in each place: $1 task_id, $2 namespace, $3 checkpoint_id. In the order in which a run
-- applies them (writes_sort_key in langgraph.checkpoint.base).
SELECT checkpoint_writes.*
FROM checkpoint_writes
JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS wanted (task_id, namespace, checkpoint_id)
    USING (task_id, namespace, checkpoint_id)
ORDER BY step_path COLLATE "C", step_id COLLATE "C", idx;

-- name: list_checkpoints
-- $1 limit; $2, $3, $4 the id, task_id and namespace of the one after which the page begins, or NULL; then, each or
-- NULL: $5 task_id, $6 namespace, $7 id, $8 an id before which to look, $9 what the metadata contains; $10 bytes.
-- `found` is how many rows there are within the limit. What would fill more than the bytes is left out, but for the
-- first one.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        size.bytes,
        sum(size.bytes) OVER (
            ORDER BY page.id COLLATE "C" DESC, page.task_id DESC, page.namespace COLLATE "C" DESC
            ROWS UNBOUNDED PRECEDING
        ) AS bytes_so_far
    FROM (
        SELECT *
        FROM checkpoints
        WHERE ($2::text IS NULL
               OR (id COLLATE "C", task_id, namespace COLLATE "C") < ($2, $3::uuid, $4::text))
          AND ($5::uuid IS NULL OR task_id = $5)
          AND ($6::text IS NULL OR namespace = $6)
          AND ($7::text IS NULL OR id = $7)
          AND ($8::text IS NULL OR id COLLATE "C" < $8)
          AND ($9::jsonb IS NULL OR metadata @> $9)
        ORDER BY id COLLATE "C" DESC, task_id DESC, namespace COLLATE "C" DESC
        LIMIT $1
    ) AS page
    CROSS JOIN LATERAL (
        SELECT octet_length(page.data) + octet_length(page.metadata::text) + coalesce(sum(octet_length(data)), 0) AS bytes
        FROM checkpoint_writes
        WHERE task_id = page.task_id AND namespace = page.namespace AND checkpoint_id = page.id
    ) AS size
) AS measured
WHERE bytes_so_far <= $10::bigint OR bytes_so_far = bytes
ORDER BY id COLLATE "C" DESC, task_id DESC, namespace COLLATE "C" DESC;

-- name: delete_checkpoints
-- $1 task_id, $2 attempt. No row where the attempt is outdated, as in put_checkpoints.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
), writes AS (
    DELETE FROM checkpoint_writes USING current WHERE task_id = current.id
), gone AS (
    DELETE FROM checkpoints USING current WHERE task_id = current.id
)
SELECT TRUE FROM current;
