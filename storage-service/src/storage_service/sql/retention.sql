-- name: take_turn
-- $1 number of the lock. Whether this process is the one that deletes, until the transaction ends.
SELECT pg_try_advisory_xact_lock($1::bigint) AS is_mine;

-- name: find_old_tasks
-- $1 how long ago a task must have ended, $2 only those that ended at this time or later, or NULL, $3 limit. The oldest
-- first. What somebody still has a use for stays: a task whose tree has not ended so long ago as a whole, the original of
-- a replay that reads from it, or would if it was started again, and the task that a document has its state from.
SELECT id, completed_at
FROM tasks
WHERE completed_at < now() - $1::interval
  AND completed_at >= coalesce($2::timestamptz, '-infinity')
  AND NOT end_unsettled
  AND NOT EXISTS (SELECT FROM documents WHERE documents.task_id = tasks.id)
  AND NOT EXISTS (
      SELECT FROM tasks AS replays WHERE replays.replay_of_task_id = tasks.id AND replays.status <> 'completed'
  )
  AND NOT EXISTS (
      SELECT
      FROM tasks AS others
      WHERE others.root_task_id = tasks.root_task_id
        AND (others.completed_at IS NULL OR others.completed_at >= now() - $1::interval)
  )
ORDER BY completed_at
LIMIT $3
FOR UPDATE SKIP LOCKED;

-- name: forget_events
-- $1 ids of tasks, $2 limit. Returns how many events that were.
WITH forgotten AS (
    DELETE FROM task_logs
    WHERE (stream_ms, stream_seq) IN (
        SELECT stream_ms, stream_seq FROM task_logs WHERE task_id = ANY ($1::uuid[]) LIMIT $2
    )
    RETURNING stream_ms
)
SELECT count(*) AS count FROM forgotten;

-- name: forget_tasks
-- $1 ids of tasks. What belongs to a task goes with it, by its foreign keys.
DELETE FROM tasks WHERE id = ANY ($1::uuid[]);
