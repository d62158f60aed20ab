-- name: find_answer
-- $1 task_id, $2 attempt, $3 call_id. No row where the attempt is outdated; nothing in it where there is no answer.
SELECT answer
FROM tasks
LEFT JOIN task_requests ON task_id = tasks.id AND call_id = $3
WHERE tasks.id = $1 AND attempt = $2 AND status = 'running';

-- name: lock_running
-- $1 id, $2 attempt. No row where the attempt is outdated.
SELECT depth FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR UPDATE;

-- name: find_sub_task
-- $1 id of the parent, $2 call_id.
SELECT child.id, child.queue, name, answer
FROM task_requests
JOIN tasks AS child ON child.id = child_task_id
WHERE task_id = $1 AND call_id = $2 AND kind = 'task';

-- name: measure_sub_task
-- $1 id. The tokens of it and of all below it, of the model calls whose events are kept.
WITH RECURSIVE tree AS (
    SELECT $1::uuid AS id
    UNION ALL
    SELECT tasks.id FROM tree JOIN tasks ON tasks.parent_task_id = tree.id
)
SELECT
    coalesce(sum((context ->> 'prompt_tokens')::bigint), 0)::bigint AS prompt_tokens,
    coalesce(sum((context ->> 'completion_tokens')::bigint), 0)::bigint AS completion_tokens
FROM tree
JOIN task_logs ON task_id = tree.id
WHERE kind = 'usage';

-- name: count_sub_tasks
-- $1 id of the parent.
SELECT count(*) AS count FROM task_requests WHERE task_id = $1 AND kind = 'task';

-- name: insert_sub_task
-- $1 id, $2 agent_id, $3 input, $4 traceparent, $5 max_retries where the agent names none, $6 id of the parent, which is
-- locked, $7 call_id, $8 arguments of the request. No row where the agent stands in the way. Rung and in turn as in
-- create_tasks.
WITH agent AS (
    SELECT id, name, queue, coalesce((config ->> 'max_retries')::integer, $5::integer) AS max_retries
    FROM agents
    WHERE id = $2 AND is_active AND queue <> 'documents'
), parent AS (
    UPDATE tasks SET root_task_id = coalesce(root_task_id, id) WHERE id = $6
    RETURNING id, root_task_id, depth, end_user, owner
), child AS (
    INSERT INTO tasks (
        id, agent_id, queue, status, input, request_hash, traceparent, max_retries, next_attempt_at, rung_at,
        parent_task_id, root_task_id, depth, end_user, owner, turn
    )
    SELECT
        $1, agent.id, agent.queue, 'pending', $3, '', $4, agent.max_retries, now(), now(),
        parent.id, parent.root_task_id, parent.depth + 1, parent.end_user, parent.owner,
        greatest(
            0,
            first_turn(agent.queue),
            (SELECT max(turn) + 1 FROM tasks WHERE status = 'pending' AND agent_id = $2)
        )
    FROM agent, parent
    RETURNING id, queue
), request AS (
    INSERT INTO task_requests (task_id, call_id, kind, name, arguments, child_task_id)
    SELECT $6, $7, 'task', agent.name, $8, child.id FROM agent, child
)
SELECT child.id, child.queue, agent.name FROM agent, child;

-- name: wait_task
-- $1 id, $2 attempt. A cancel that was asked for meanwhile ends the task.
WITH waiting AS (
    UPDATE tasks
    SET status = CASE WHEN cancel_requested_at IS NULL THEN 'waiting' ELSE 'cancelled' END,
        waiting_since = CASE WHEN cancel_requested_at IS NULL THEN now() END,
        completed_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE now() END,
        end_unsettled = true,
        worker_id = NULL, lease_expires_at = NULL
    WHERE id = $1 AND attempt = $2 AND status = 'running'
    RETURNING *
), closed AS (
    UPDATE task_attempts
    SET ended_at = now(), outcome = waiting.status
    FROM waiting
    WHERE task_attempts.task_id = waiting.id AND task_attempts.attempt = waiting.attempt
)
SELECT * FROM waiting;

-- name: find_wait
-- $1 id, $2 attempt. The task, where it is this attempt's wait that ended it and nothing followed.
SELECT tasks.*
FROM tasks
JOIN task_attempts ON task_attempts.task_id = tasks.id AND task_attempts.attempt = tasks.attempt
WHERE tasks.id = $1 AND tasks.attempt = $2 AND task_attempts.outcome = 'waiting';

-- name: add_requests
-- $1 task_id, then arrays with a request in each place: $2 call_id, $3 kind, $4 name, $5 arguments, $6 time-out or NULL,
-- $7 default_answer or NULL. One that was asked before stays as it is.
INSERT INTO task_requests (task_id, call_id, kind, name, arguments, expires_at, default_answer)
SELECT $1, call_id, kind, name, arguments, now() + timeout, default_answer
FROM unnest($2::text[], $3::text[], $4::text[], $5::jsonb[], $6::interval[], $7::jsonb[])
    AS asked (call_id, kind, name, arguments, timeout, default_answer)
ON CONFLICT (task_id, call_id) DO NOTHING;

-- name: count_requests
-- $1 task_id, $2 call_ids. How many of them there are.
SELECT count(*) AS count FROM task_requests WHERE task_id = $1 AND call_id = ANY ($2::text[]);

-- name: list_open_requests
-- $1 ids of tasks.
SELECT * FROM task_requests
WHERE task_id = ANY ($1::uuid[]) AND answered_at IS NULL
ORDER BY task_id, asked_at, call_id;

-- name: match_answers
-- $1 task_id, then arrays: $2 call_ids, $3 answers. Each with what was asked, and whether it was answered so before.
SELECT
    given.call_id, given.answer AS given_answer, kind, name, arguments, child_task_id,
    answered_at IS NOT NULL AS is_answered, coalesce(task_requests.answer = given.answer, false) AS is_same
FROM unnest($2::text[], $3::jsonb[]) AS given (call_id, answer)
LEFT JOIN task_requests ON task_id = $1 AND task_requests.call_id = given.call_id;

-- name: give_answers
-- As match_answers; what was answered before stays.
UPDATE task_requests
SET answer = given.answer, answered_at = now()
FROM unnest($2::text[], $3::jsonb[]) AS given (call_id, answer)
WHERE task_id = $1 AND task_requests.call_id = given.call_id AND answered_at IS NULL;

-- name: get_waiting
-- $1 id. The task as it is, which the tree's lock keeps from being changed by another answer.
SELECT * FROM tasks WHERE id = $1;

-- name: find_agent
-- $1 id.
SELECT id FROM agents WHERE id = $1;
