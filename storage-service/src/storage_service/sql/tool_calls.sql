-- name: begin_tool_call
-- $1 task_id, $2 attempt, $3 call_id, $4 tool_name, $5 arguments, $6 repeatable.
-- One row where the call is to be made. The lock holds until this is committed: an attempt that ends meanwhile ends
-- after it, or is seen to have ended.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
)
INSERT INTO tool_calls AS known (task_id, attempt, call_id, tool_name, arguments, repeatable)
SELECT current.id, $2, $3, $4, $5, $6 FROM current
ON CONFLICT (task_id, call_id) DO UPDATE
SET attempt = excluded.attempt, tool_name = excluded.tool_name, arguments = excluded.arguments, started_at = now()
WHERE known.ended_at IS NULL
  AND (known.attempt = excluded.attempt OR (known.repeatable AND excluded.repeatable))
RETURNING TRUE;

-- name: finish_tool_call
-- $1 task_id, $2 attempt, $3 call_id, $4 result, where NULL is JSON's null. Fenced as begin_tool_call is.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
)
UPDATE tool_calls
SET result = coalesce($4::jsonb, 'null'::jsonb), ended_at = now()
FROM current
WHERE task_id = current.id AND call_id = $3 AND attempt = $2 AND ended_at IS NULL
RETURNING TRUE;

-- name: find_tool_call
-- $1 task_id, $2 attempt, $3 call_id. No row where the attempt is outdated; nothing in it where there is no such call.
SELECT tool_calls.tool_name, tool_calls.result, tool_calls.ended_at
FROM tasks
LEFT JOIN tool_calls ON tool_calls.task_id = tasks.id AND tool_calls.call_id = $3
WHERE tasks.id = $1 AND tasks.attempt = $2 AND tasks.status = 'running';
