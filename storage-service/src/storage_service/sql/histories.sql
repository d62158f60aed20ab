-- name: list_saved_checkpoints
-- $1 limit, $2 task_id, $3 after this id or NULL, $4 bytes. The first one first, of the task's own graph; what went into
-- that is no state yet.
-- `found` is how many rows there are within the limit; those whose predecessors fill the bytes are left out.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(data) + octet_length(metadata::text)) OVER (
            ORDER BY id COLLATE "C" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM checkpoints
        WHERE task_id = $2 AND namespace = '' AND metadata ->> 'source' <> 'input'
          AND ($3::text IS NULL OR id COLLATE "C" > $3)
        ORDER BY id COLLATE "C"
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $4::bigint
ORDER BY id COLLATE "C";

-- name: list_recorded_calls
-- $1 limit, $2 task_id, $3 after this call_id or NULL, $4 bytes. As list_saved_checkpoints.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(arguments::text) + octet_length(result::text)) OVER (
            ORDER BY call_id COLLATE "C" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM tool_calls
        WHERE task_id = $2 AND ended_at IS NOT NULL AND ($3::text IS NULL OR call_id COLLATE "C" > $3)
        ORDER BY call_id COLLATE "C"
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $4::bigint
ORDER BY call_id COLLATE "C";

-- name: get_history
-- $1 task_id. One row where there is such a task; nothing of a history in it where none is kept.
SELECT
    tasks.status, tasks.attempt, tasks.agent_id, tasks.owner, tasks.replay_of_task_id, agents.is_active AS agent_is_active,
    task_histories.task_id IS NOT NULL AS is_kept, task_histories.first_checkpoint_id
FROM tasks
JOIN agents ON agents.id = tasks.agent_id
LEFT JOIN task_histories ON task_histories.task_id = tasks.id
WHERE tasks.id = $1;

-- name: derive_task
-- $1 id, $2 id of the task that it is made from, $3 whether it replays that one, $4 input or NULL for that one's,
-- $5 idempotency_key or NULL, $6 request_hash, $7 traceparent, $8 max_retries where the agent names none.
-- One row where the task was accepted; none where the agent, the key or the id stands in the way. A replay needs no
-- active agent: it asks nobody. Rung and in turn as in create_tasks.
INSERT INTO tasks (
    id, agent_id, queue, status, input, idempotency_key, request_hash, traceparent, max_retries, next_attempt_at,
    rung_at, end_user, tools, owner, forked_from_task_id, replay_of_task_id, turn
)
SELECT
    $1, agents.id, agents.queue, 'pending', coalesce($4::jsonb, origin.input), $5, $6, $7,
    coalesce((agents.config ->> 'max_retries')::integer, $8::integer), now(), now(), origin.end_user, origin.tools,
    origin.owner,
    CASE WHEN NOT $3 THEN origin.id END, CASE WHEN $3 THEN origin.id END,
    greatest(
        0,
        first_turn(agents.queue),
        (SELECT max(turn) + 1 FROM tasks WHERE status = 'pending' AND agent_id = agents.id)
    )
FROM tasks AS origin
JOIN agents ON agents.id = origin.agent_id
WHERE origin.id = $2
  AND (is_active OR $3)
  AND NOT EXISTS (SELECT FROM tasks WHERE id = $1 OR (owner = origin.owner AND idempotency_key = $5))
ON CONFLICT DO NOTHING
RETURNING *;

-- name: derive_history
-- $1 id of the new task, $2 of the one that it is made from, $3 answers, $4 first_checkpoint_id or NULL, $5 whether it
-- replays that one: else it has the agent as that is when it is claimed, as claim_task says.
INSERT INTO task_histories (task_id, agent, session_summary, session_turns, answers, first_checkpoint_id)
SELECT $1, CASE WHEN $5 THEN agent ELSE 'null' END, session_summary, session_turns, $3, $4
FROM task_histories
WHERE task_id = $2
RETURNING TRUE;

-- name: copy_checkpoints
-- $1 id of the new task, $2 of the one that it is made from, $3 the last checkpoint to copy; $4 type and $5 data in the
-- place of that one's, or NULL. Returns whether that one is there.
WITH copied AS (
    INSERT INTO checkpoints (task_id, namespace, id, parent_id, attempt, type, data, metadata, created_at)
    SELECT
        $1, namespace, id, parent_id, 0,
        CASE WHEN id = $3 THEN coalesce($4::text, type) ELSE type END,
        CASE WHEN id = $3 THEN coalesce($5::bytea, data) ELSE data END,
        metadata, created_at
    FROM checkpoints
    WHERE task_id = $2 AND namespace = '' AND id COLLATE "C" <= $3
    RETURNING id
)
SELECT EXISTS (SELECT FROM copied WHERE id = $3) AS is_there;

-- name: copy_tool_calls
-- $1 id of the new task, $2 of the one that it is made from, $3 a checkpoint. The calls of the steps before it, without
-- what an attempt noted of its surroundings ($4 is their tool_name). No step is before step 0, whatever its time says:
-- it may have been kept only when the first step had ended.
INSERT INTO tool_calls (task_id, call_id, attempt, tool_name, arguments, repeatable, result, started_at, ended_at)
SELECT $1, call_id, 0, tool_name, arguments, repeatable, result, started_at, ended_at
FROM tool_calls
WHERE task_id = $2
  AND tool_name <> $4
  AND ended_at <= (
      SELECT created_at
      FROM checkpoints
      WHERE task_id = $2 AND namespace = '' AND id = $3 AND (metadata ->> 'step')::integer > 0
  );

-- name: forget_histories
-- $1 how long ago a task must have ended, $2 limit. What is kept of such tasks; a task that is just started again is
-- passed over. Returns how many tasks that were. A history begins before its task ends, so the oldest come first.
WITH old AS (
    SELECT task_histories.task_id
    FROM task_histories
    JOIN tasks ON tasks.id = task_histories.task_id
    WHERE task_histories.created_at < now() - $1::interval AND completed_at < now() - $1::interval
    ORDER BY task_histories.created_at
    LIMIT $2
    FOR UPDATE OF tasks SKIP LOCKED
), calls AS (
    DELETE FROM tool_calls USING old WHERE tool_calls.task_id = old.task_id
), writes AS (
    DELETE FROM checkpoint_writes USING old WHERE checkpoint_writes.task_id = old.task_id
), gone AS (
    DELETE FROM checkpoints USING old WHERE checkpoints.task_id = old.task_id
), forgotten AS (
    DELETE FROM task_histories USING old WHERE task_histories.task_id = old.task_id RETURNING old.task_id
)
SELECT count(*) AS count FROM forgotten;
