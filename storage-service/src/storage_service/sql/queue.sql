-- name: take_due_tasks
-- $1 limit, $2 ring_again_after, $3 delivered_before or NULL, $4 error_code and $5 error_message of a lost worker,
-- $6 queue.
-- What goes back into the queue was accepted earlier than all that waits, and is next.
-- Each of the first three parts reads its own partial index from its oldest entry, and takes what the ones before left.
WITH lost AS (
    -- What comes next is decided here, on the row as it is once locked.
    SELECT
        id,
        CASE
            WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
            WHEN retry_count < max_retries THEN 'pending'
            ELSE 'failed'
        END AS next_status
    FROM tasks
    WHERE status = 'running' AND lease_expires_at < now() AND queue = $6
    ORDER BY lease_expires_at
    LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
), never_rung AS (
    SELECT id
    FROM tasks
    WHERE status = 'pending' AND queue = $6 AND rung_at IS NULL AND next_attempt_at <= now()
    ORDER BY next_attempt_at
    LIMIT $1::bigint - (SELECT count(*) FROM lost)
    FOR UPDATE SKIP LOCKED
), rung_in_vain AS (
    SELECT id
    FROM tasks
    WHERE status = 'pending' AND queue = $6 AND rung_at < least(now() - $2::interval, $3::timestamptz)
    ORDER BY rung_at
    LIMIT $1::bigint - (SELECT count(*) FROM lost) - (SELECT count(*) FROM never_rung)
    FOR UPDATE SKIP LOCKED
), rung AS (
    UPDATE tasks
    SET rung_at = now(),
        turn = coalesce(tasks.turn, first_turn($6), 0)
    FROM (SELECT id FROM never_rung UNION ALL SELECT id FROM rung_in_vain) AS due
    WHERE tasks.id = due.id
    RETURNING tasks.*
), given_up AS (
    UPDATE tasks
    SET status = lost.next_status,
        retry_count = tasks.retry_count + CASE lost.next_status WHEN 'pending' THEN 1 ELSE 0 END,
        next_attempt_at = CASE lost.next_status WHEN 'pending' THEN now() END,
        rung_at = CASE lost.next_status WHEN 'pending' THEN now() END,
        turn = CASE lost.next_status
            WHEN 'pending' THEN coalesce(first_turn($6), 0)
        END,
        end_unsettled = lost.next_status <> 'pending',
        completed_at = CASE lost.next_status WHEN 'pending' THEN NULL ELSE now() END,
        error_code = CASE lost.next_status WHEN 'cancelled' THEN tasks.error_code ELSE $4 END,
        error_message = CASE lost.next_status WHEN 'cancelled' THEN tasks.error_message ELSE $5 END,
        worker_id = NULL, lease_expires_at = NULL
    FROM lost
    WHERE tasks.id = lost.id
    RETURNING tasks.*
), closed AS (
    UPDATE task_attempts
    SET ended_at = now(), outcome = 'worker_lost', error_code = $4, error_message = $5
    FROM given_up
    WHERE task_attempts.task_id = given_up.id AND task_attempts.attempt = given_up.attempt
)
-- A thousand inputs would be too much for one answer, and a doorbell needs none.
SELECT
    id, agent_id, queue, session_id, status, '{}'::jsonb AS input, NULL::jsonb AS output, error_code, error_message,
    retry_count, attempt, created_at, started_at, completed_at, next_attempt_at, cancel_requested_at, end_user,
    traceparent, forked_from_task_id, replay_of_task_id, parent_task_id, root_task_id, depth, waiting_since,
    owner, '[]'::jsonb AS tools
FROM (SELECT * FROM rung UNION ALL SELECT * FROM given_up) AS taken;

-- name: oldest_ring
-- $1 queue.
SELECT min(rung_at) AS at FROM tasks WHERE status = 'pending' AND queue = $1;

-- name: settle_ends
-- $1 limit, $2 how long ago they ended, or began to wait, at least. Both those that are settled here and those that
-- can't be yet. The event that tells of it has the time of it.
WITH ended AS (
    SELECT id, coalesce(completed_at, waiting_since) AS at
    FROM tasks
    WHERE end_unsettled AND coalesce(completed_at, waiting_since) < now() - $2::interval
    ORDER BY coalesce(completed_at, waiting_since)
    LIMIT $1
), settled AS (
    UPDATE tasks
    SET end_unsettled = false
    FROM ended
    WHERE tasks.id = ended.id
      AND coalesce(tasks.completed_at, tasks.waiting_since) = ended.at
      AND EXISTS (
          SELECT FROM task_logs
          WHERE task_id = ended.id AND timestamp = ended.at AND kind = 'status'
      )
    RETURNING tasks.id
)
SELECT
    id, agent_id, queue, session_id, status, '{}'::jsonb AS input, NULL::jsonb AS output, error_code, error_message,
    retry_count, attempt, created_at, started_at, completed_at, next_attempt_at, cancel_requested_at, end_user,
    traceparent, forked_from_task_id, replay_of_task_id, parent_task_id, root_task_id, depth, waiting_since,
    owner, '[]'::jsonb AS tools,
    id IN (SELECT id FROM settled) AS is_settled
FROM tasks
WHERE id IN (SELECT id FROM ended) AND (completed_at IS NOT NULL OR waiting_since IS NOT NULL)
ORDER BY coalesce(completed_at, waiting_since);

-- name: count_pending
-- By agent.
SELECT agent_id, count(*) AS count FROM tasks WHERE status = 'pending' GROUP BY agent_id;

-- name: queue_stats
-- Of the tasks that have not ended; oldest_pending is the wait of the one that has been due the longest.
SELECT
    (SELECT count(*) FROM tasks WHERE status = 'pending') AS pending,
    (SELECT count(*) FROM tasks WHERE status = 'running') AS running,
    (SELECT count(*) FROM tasks WHERE status = 'waiting') AS waiting,
    greatest(
        now() - (SELECT min(next_attempt_at) FROM tasks WHERE status = 'pending'), interval '0'
    ) AS oldest_pending;

-- name: list_queues
-- Of the tasks that wait for a worker or run. It goes along tasks_turn from each queue to the next, however many wait in
-- one, and through the few that run.
WITH RECURSIVE waiting AS (
    (SELECT queue FROM tasks WHERE status = 'pending' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT tasks.queue FROM tasks WHERE status = 'pending' AND tasks.queue > waiting.queue ORDER BY queue LIMIT 1)
    FROM waiting
    WHERE waiting.queue IS NOT NULL
)
SELECT queue FROM waiting WHERE queue IS NOT NULL
UNION
SELECT queue FROM tasks WHERE status = 'running';

-- name: queue_depths
-- By queue; oldest_seconds is the wait of the one that has been due the longest.
SELECT
    queue,
    count(*) AS pending,
    greatest(extract(epoch FROM now() - min(next_attempt_at))::double precision, 0) AS oldest_seconds
FROM tasks
WHERE status = 'pending'
GROUP BY queue;

-- name: count_by_status
SELECT status, count(*) AS count FROM tasks GROUP BY status;
