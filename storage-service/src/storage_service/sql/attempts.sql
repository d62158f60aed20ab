-- name: claim_task
-- $1 worker_id, $2 lease, $3 queue. The task whose turn it is, of those that nobody else is just taking.
WITH next AS (
    SELECT id, next_attempt_at
    FROM tasks
    WHERE status = 'pending' AND turn IS NOT NULL AND queue = $3
    ORDER BY turn, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE tasks
    SET status = 'running', attempt = tasks.attempt + 1, worker_id = $1, lease_expires_at = now() + $2::interval,
        started_at = coalesce(tasks.started_at, now()), next_attempt_at = NULL, rung_at = NULL, turn = NULL
    FROM next
    WHERE tasks.id = next.id
    RETURNING tasks.*, now() - next.next_attempt_at AS queued
), opened AS (
    INSERT INTO task_attempts (task_id, attempt, worker_id)
    SELECT id, attempt, worker_id FROM claimed
)
SELECT
    claimed.*,
    sessions.summary AS session_summary,
    jsonb_path_query_array(
        sessions.session_data, '$.turns[$from to last]',
        jsonb_build_object(
            'from', greatest(0, sessions.summarized_turns - coalesce((session_data ->> 'dropped')::integer, 0))
        )
    ) AS session_turns,
    agents.name AS agent_name, agents.description AS agent_description, agents.model_name AS agent_model_name,
    agents.config AS agent_config, agents.created_at AS agent_created_at, agents.updated_at AS agent_updated_at,
    agents.is_active AS agent_is_active
FROM claimed
JOIN agents ON agents.id = claimed.agent_id
LEFT JOIN sessions ON sessions.id = claimed.session_id;

-- name: extend_lease
-- $1 id, $2 attempt, $3 lease.
UPDATE tasks
SET lease_expires_at = now() + $3::interval
WHERE id = $1 AND attempt = $2 AND status = 'running'
RETURNING cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: finish_task
-- $1 id, $2 attempt, $3 status, $4 output, $5 error_code, $6 error_message; the last three or NULL.
-- A completed task is not started again, so nothing is kept of how it got there.
WITH finished AS (
    UPDATE tasks
    SET status = $3, output = $4, error_code = $5, error_message = $6, completed_at = now(), end_unsettled = true,
        worker_id = NULL, lease_expires_at = NULL
    WHERE id = $1 AND attempt = $2 AND status = 'running'
    RETURNING *
), closed AS (
    UPDATE task_attempts
    SET ended_at = now(), outcome = finished.status, error_code = $5, error_message = $6
    FROM finished
    WHERE task_attempts.task_id = finished.id AND task_attempts.attempt = finished.attempt
), calls AS (
    DELETE FROM tool_calls USING finished WHERE task_id = finished.id AND finished.status = 'completed'
), writes AS (
    DELETE FROM checkpoint_writes USING finished WHERE task_id = finished.id AND finished.status = 'completed'
), checkpoints AS (
    DELETE FROM checkpoints USING finished WHERE task_id = finished.id AND finished.status = 'completed'
)
SELECT * FROM finished;

-- name: release_task
-- $1 id, $2 attempt, $3 is_retry, $4 delay, $5 error_code, $6 error_message; the last two or NULL.
-- A cancel that was asked for meanwhile ends the task. A hand-over leaves the errors of earlier attempts; its doorbell
-- is rung at once, and it is next. A retry's rings when its delay is over.
WITH released AS (
    UPDATE tasks
    SET status = CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE 'cancelled' END,
        next_attempt_at = CASE
            WHEN cancel_requested_at IS NULL THEN now() + CASE WHEN $3 THEN $4::interval ELSE interval '0' END
        END,
        completed_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE now() END,
        end_unsettled = cancel_requested_at IS NOT NULL,
        rung_at = CASE WHEN cancel_requested_at IS NULL AND NOT $3 THEN now() END,
        turn = CASE
            WHEN cancel_requested_at IS NULL AND NOT $3
            THEN coalesce(
                (SELECT min(others.turn) FROM tasks AS others WHERE status = 'pending' AND others.queue = tasks.queue), 0
            )
        END,
        retry_count = retry_count + CASE WHEN $3 AND cancel_requested_at IS NULL THEN 1 ELSE 0 END,
        error_code = CASE WHEN $3 THEN $5 ELSE error_code END,
        error_message = CASE WHEN $3 THEN $6 ELSE error_message END,
        worker_id = NULL, lease_expires_at = NULL
    WHERE id = $1 AND attempt = $2 AND status = 'running'
    RETURNING *
), closed AS (
    UPDATE task_attempts
    SET ended_at = now(), error_code = $5, error_message = $6,
        outcome = CASE
            WHEN released.status = 'cancelled' THEN 'cancelled' WHEN $3 THEN 'retried' ELSE 'handed_over'
        END
    FROM released
    WHERE task_attempts.task_id = released.id AND task_attempts.attempt = released.attempt
)
SELECT * FROM released;

-- name: record_resume
-- $1 id, $2 attempt, $3 step.
UPDATE task_attempts
SET resumed_from = $3
FROM tasks
WHERE task_id = $1 AND task_attempts.attempt = $2
  AND tasks.id = $1 AND tasks.attempt = $2 AND tasks.status = 'running'
RETURNING TRUE;

-- name: list_attempts
-- $1 id of the task, $2 limit, $3 after this attempt.
SELECT * FROM task_attempts WHERE task_id = $1 AND attempt > $3 ORDER BY attempt LIMIT $2;

-- name: find_task
-- $1 id of the task.
SELECT * FROM tasks WHERE id = $1;

-- name: lock_attempt
-- $1 id, $2 attempt. No row where the attempt is outdated, as in put_checkpoint.
SELECT TRUE FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE;
