-- part: claiming
-- $1 worker_id, $2 lease, $3 queue. Where there is a row in `place`, `claimed` is the task whose turn it is, of those that
-- nobody else is just taking.
-- Its history has the agent and the session as they are at its first attempt, for all that follow; where its agent is
-- null, as of a fork and of a task that was started again by hand, they are read anew. A task that was made from another
-- one has that one's turns and no session.
-- The agent comes by a subquery: a join may be planned as a look at all agents, where there were few.
next AS (
    SELECT id, next_attempt_at
    FROM tasks
    WHERE status = 'pending' AND turn IS NOT NULL AND queue = $3 AND EXISTS (SELECT FROM place)
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
), history AS (
    INSERT INTO task_histories AS known (task_id, agent, session_summary, session_turns)
    SELECT
        claimed.id,
        (SELECT to_jsonb(agents) FROM agents WHERE agents.id = claimed.agent_id),
        sessions.summary,
        coalesce(
            jsonb_path_query_array(
                session_data, '$.turns[$from to last]',
                jsonb_build_object(
                    'from', greatest(0, summarized_turns - coalesce((session_data ->> 'dropped')::integer, 0))
                )
            ),
            '[]'
        )
    FROM claimed
    LEFT JOIN sessions ON sessions.id = claimed.session_id
    ON CONFLICT (task_id) DO UPDATE
    SET agent = CASE WHEN known.agent = 'null' THEN excluded.agent ELSE known.agent END,
        session_summary = CASE
            WHEN known.agent = 'null' AND (SELECT session_id FROM claimed) IS NOT NULL
            THEN excluded.session_summary ELSE known.session_summary
        END,
        session_turns = CASE
            WHEN known.agent = 'null' AND (SELECT session_id FROM claimed) IS NOT NULL
            THEN excluded.session_turns ELSE known.session_turns
        END
    RETURNING agent, session_summary, session_turns, answers
);

-- name: claim_task
-- $1 worker_id, $2 lease, $3 queue.
WITH place AS (
    SELECT
),
-- include: claiming
SELECT claimed.*, history.agent, history.session_summary, history.session_turns, history.answers
FROM claimed, history;

-- name: extend_leases
-- $1 ids, $2 the attempt of each, $3 lease.
-- Those whose rows somebody else holds are passed over: who waited for them with the others in hand might be waited for in
-- a circle.
WITH free AS (
    SELECT tasks.id
    FROM unnest($1::uuid[], $2::int[]) AS held (id, attempt)
    INNER JOIN tasks ON tasks.id = held.id AND tasks.attempt = held.attempt
    WHERE tasks.status = 'running'
    FOR NO KEY UPDATE OF tasks SKIP LOCKED
)
UPDATE tasks
SET lease_expires_at = now() + $3::interval
FROM free
WHERE tasks.id = free.id
RETURNING tasks.id, tasks.attempt, tasks.cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: extend_lease
-- $1 id, $2 attempt, $3 lease.
-- `IS TRUE`, here and in all such statements whose plan is kept, leaves the planner no index but that of the ids: along
-- `tasks_lease` it would look at all tasks that run.
UPDATE tasks
SET lease_expires_at = now() + $3::interval
WHERE id = $1 AND attempt = $2 AND (status = 'running') IS TRUE
RETURNING id, attempt, cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: finish_task
-- $1 worker_id, $2 lease, $3 queue: of the claim that comes with it, or each NULL; $4 id, $5 attempt, $6 status, $7 output,
-- $8 error_code, $9 error_message, the last three or NULL; arrays with a checkpoint in each place, as in
-- put_checkpoints: $10 namespace, $11 id, $12 parent_id or NULL, $13 type, $14 data, $15 metadata; $16 whether only a task
-- that is part of no tree is to be finished.
-- The row of the task that has ended, whose agent is NULL; and that of the one that is claimed, as in claim_task.
WITH finished AS (
    UPDATE tasks
    SET status = $6, output = $7, error_code = $8, error_message = $9, completed_at = now(), end_unsettled = true,
        worker_id = NULL, lease_expires_at = NULL
    WHERE id = $4 AND attempt = $5 AND (status = 'running') IS TRUE AND (root_task_id IS NULL OR NOT $16)
    RETURNING *
), closed AS (
    UPDATE task_attempts
    SET ended_at = now(), outcome = finished.status, error_code = $8, error_message = $9
    FROM finished
    WHERE task_attempts.task_id = finished.id AND task_attempts.attempt = finished.attempt
), kept AS (
    INSERT INTO checkpoints (task_id, attempt, namespace, id, parent_id, type, data, metadata)
    SELECT finished.id, $5, given.*
    FROM finished, unnest($10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::jsonb[]) AS given
    ON CONFLICT (task_id, namespace, id) DO UPDATE
    SET attempt = excluded.attempt, parent_id = excluded.parent_id, type = excluded.type, data = excluded.data,
        metadata = excluded.metadata
), place AS (
    SELECT FROM finished WHERE $1::text IS NOT NULL
),
-- include: claiming
SELECT
    finished.*, NULL::interval AS queued, NULL::jsonb AS agent, NULL AS session_summary, NULL::jsonb AS session_turns,
    NULL::jsonb AS answers
FROM finished
UNION ALL
SELECT claimed.*, history.agent, history.session_summary, history.session_turns, history.answers
FROM claimed, history;

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
                first_turn(tasks.queue), 0
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
-- $1 id, $2 attempt. No row where the attempt is outdated, as in put_checkpoints.
SELECT TRUE FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE;
