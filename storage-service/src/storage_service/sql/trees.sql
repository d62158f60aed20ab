-- name: lock_tree
-- $1 id of a task. Until the transaction ends nobody else changes more than one task of its tree, nor ends one; it is
-- taken before any row's lock. One row where the task is there.
SELECT
    coalesce(root_task_id, id) AS tree_id,
    pg_advisory_xact_lock(hashtextextended(coalesce(root_task_id, id)::text, 0)) AS locked
FROM tasks
WHERE id = $1;

-- name: cancel_orphans
-- $1 tree_id. What was asked for by a task that has ended, or is to be cancelled, and all below: as cancel_task does.
WITH RECURSIVE doomed AS (
    SELECT asked.child_task_id AS id
    FROM tasks AS parent
    JOIN task_requests AS asked ON asked.task_id = parent.id
    WHERE parent.root_task_id = $1
      AND (parent.completed_at IS NOT NULL OR parent.cancel_requested_at IS NOT NULL)
      AND asked.child_task_id IS NOT NULL
      AND asked.answered_at IS NULL
    UNION
    SELECT asked.child_task_id
    FROM doomed
    JOIN task_requests AS asked ON asked.task_id = doomed.id
    WHERE asked.child_task_id IS NOT NULL AND asked.answered_at IS NULL
)
UPDATE tasks
SET status = CASE status WHEN 'running' THEN status ELSE 'cancelled' END,
    completed_at = CASE status WHEN 'running' THEN NULL ELSE now() END,
    end_unsettled = status <> 'running',
    waiting_since = NULL,
    next_attempt_at = NULL,
    rung_at = NULL,
    turn = NULL,
    cancel_requested_at = coalesce(cancel_requested_at, now())
FROM doomed
WHERE tasks.id = doomed.id
  AND (status IN ('pending', 'waiting') OR (status = 'running' AND cancel_requested_at IS NULL))
RETURNING tasks.*;

-- name: answer_by_ended
-- $1 tree_id. Sub-tasks that have ended are the answers to what asked for them.
UPDATE task_requests
SET answered_at = now(),
    answer = jsonb_build_object(
        'task_id', child.id, 'status', child.status, 'output', child.output,
        'error_code', child.error_code, 'error_message', child.error_message
    )
FROM tasks AS child
WHERE child.root_task_id = $1
  AND child.id = task_requests.child_task_id
  AND child.completed_at IS NOT NULL
  AND task_requests.answered_at IS NULL;

-- name: drop_requests_of_ended
-- $1 tree_id. Nobody is asked any more for a task that has ended.
DELETE FROM task_requests
USING tasks
WHERE (tasks.id = $1 OR tasks.root_task_id = $1)
  AND tasks.completed_at IS NOT NULL
  AND task_requests.task_id = tasks.id
  AND task_requests.answered_at IS NULL
  AND task_requests.child_task_id IS NULL;

-- name: wake_answered
-- $1 tree_id. The caller rings their doorbells at once. They were accepted earlier than all that waits, and are next.
UPDATE tasks
SET status = 'pending',
    next_attempt_at = now(),
    rung_at = now(),
    turn = coalesce(
        first_turn(tasks.queue), 0
    ),
    waiting_since = NULL,
    end_unsettled = false
WHERE (id = $1 OR root_task_id = $1)
  AND status = 'waiting'
  AND NOT EXISTS (SELECT FROM task_requests WHERE task_id = tasks.id AND answered_at IS NULL)
RETURNING *;

-- name: find_out_of_step
-- $1 limit. Tasks that wait for an answer whose time is over; that asked for a sub-task which has ended and nobody told;
-- or that ended, or are to be cancelled, and have a sub-task that was not told.
SELECT task_id
FROM (
    SELECT asked.task_id
    FROM task_requests AS asked
    JOIN tasks ON tasks.id = asked.task_id
    WHERE asked.answered_at IS NULL AND asked.expires_at <= now() AND tasks.status = 'waiting'
    UNION
    SELECT asked.task_id
    FROM task_requests AS asked
    JOIN tasks AS child ON child.id = asked.child_task_id
    JOIN tasks AS parent ON parent.id = asked.task_id
    WHERE asked.child_task_id IS NOT NULL
      AND asked.answered_at IS NULL
      AND (
          child.completed_at IS NOT NULL
          OR (parent.completed_at IS NOT NULL OR parent.cancel_requested_at IS NOT NULL)
          AND child.cancel_requested_at IS NULL
      )
) AS found
LIMIT $1;

-- name: answer_by_default
-- $1 id of a task. What is over its time.
UPDATE task_requests
SET answer = coalesce(default_answer, '{"timed_out": true}'), answered_at = now()
FROM tasks
WHERE task_id = $1 AND tasks.id = $1 AND tasks.status = 'waiting' AND answered_at IS NULL AND expires_at <= now();
