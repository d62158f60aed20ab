-- name: create_tasks
-- $1 max_retries where an agent names none; arrays with a task in each place: $2 id, $3 agent_id, $4 session_id or NULL,
-- $5 input, $6 idempotency_key or NULL, $7 request_hash, $8 traceparent, $9 user or NULL, $10 tools, as {"tools": […]}.
-- A row for each task that was accepted; none where its agent, session, key or id stands in the way.
-- The caller rings the doorbells at once, so they count as rung. A task's turn follows the agent's last one, or is that of
-- the task that is next: agents take turns, whoever has more waiting (start-time fair queueing).
-- Sessions and tasks are made in an order that all callers keep, so that none of two waits for the other.
WITH given AS MATERIALIZED (
    SELECT given.*, agent.*, owner_of_task(given.agent_id, given.input) AS owner
    FROM unnest(
        $2::uuid[], $3::uuid[], $4::uuid[], $5::jsonb[], $6::text[], $7::text[], $8::text[], $9::text[], $10::jsonb[]
    ) WITH ORDINALITY AS given (
        id, agent_id, session_id, input, idempotency_key, request_hash, traceparent, end_user, tools, place
    )
    -- LATERAL and LIMIT: a join may be planned as a look at all agents, where there were few.
    CROSS JOIN LATERAL (
        SELECT queue, coalesce((config ->> 'max_retries')::integer, $1::integer) AS max_retries
        FROM agents
        WHERE agents.id = given.agent_id AND is_active
        LIMIT 1
    ) AS agent
), session AS (
    -- DO UPDATE, not DO NOTHING: it also returns a session that another call is just making. What was accepted before
    -- makes none.
    INSERT INTO sessions (id, agent_id, owner)
    SELECT DISTINCT ON (session_id) session_id, agent_id, owner
    FROM given
    WHERE session_id IS NOT NULL
      -- OFFSET keeps each a look along its index and no join.
      AND NOT EXISTS (SELECT FROM tasks WHERE tasks.id = given.id OFFSET 0)
      AND NOT EXISTS (
          SELECT
          FROM tasks
          WHERE tasks.owner = given.owner AND tasks.idempotency_key = given.idempotency_key
          OFFSET 0
      )
    -- Where several agents want a session, it is that of the agent that has it.
    ORDER BY
        session_id,
        coalesce(agent_id = (SELECT known.agent_id FROM sessions AS known WHERE known.id = session_id), false) DESC,
        place
    ON CONFLICT (id) DO UPDATE SET updated_at = now() WHERE sessions.agent_id = excluded.agent_id
    RETURNING id, agent_id
), agent AS (
    SELECT
        agent_id,
        greatest(
            0,
            first_turn(queue),
            (
                SELECT turn + 1
                FROM tasks
                WHERE status = 'pending' AND turn IS NOT NULL AND tasks.agent_id = asked.agent_id
                ORDER BY turn DESC
                LIMIT 1
            )
        ) AS next_turn
    FROM (SELECT DISTINCT agent_id, queue FROM given) AS asked
)
INSERT INTO tasks (
    id, agent_id, queue, session_id, status, input, idempotency_key, request_hash, traceparent, max_retries,
    next_attempt_at, rung_at, end_user, tools, owner, turn
)
SELECT
    id, agent_id, queue, session_id, 'pending', input, idempotency_key, request_hash, traceparent, max_retries,
    now(), now(), end_user, tools -> 'tools', owner,
    next_turn + row_number() OVER (PARTITION BY agent_id ORDER BY place) - 1
FROM given
JOIN agent USING (agent_id)
WHERE session_id IS NULL OR (session_id, agent_id) IN (SELECT id, agent_id FROM session)
ORDER BY idempotency_key, owner, place
ON CONFLICT DO NOTHING
RETURNING *;

-- name: find_accepted
-- $1 id, $2 idempotency_key or NULL, $3 owner of the task that would be made. The task that this request, or one with
-- its key, made before. Who sees all must not meet another owner's key.
SELECT * FROM tasks WHERE id = $1 OR (owner = $3 AND idempotency_key = $2) ORDER BY id = $1 DESC LIMIT 1;

-- name: find_owner
-- $1 agent_id, $2 input. Whose a task of it would be; NULL where there is no such agent.
SELECT owner_of_task($1, $2) AS owner;

-- name: find_obstacle
-- $1 agent_id, $2 session_id or NULL. Why a task can't be created.
SELECT
    (SELECT is_active FROM agents WHERE id = $1) AS is_active,
    (SELECT agent_id FROM sessions WHERE id = $2) AS session_agent_id;

-- name: get_task
-- $1 id.
SELECT * FROM tasks WHERE id = $1;

-- name: get_task_states
-- $1 ids.
SELECT id, status, completed_at IS NOT NULL AND NOT end_unsettled AS end_settled FROM tasks WHERE id = ANY ($1::uuid[]);

-- name: list_tasks
-- $1 limit, $2 after this id or NULL, $3 agent_id or NULL, $4 one status or NULL, $5 several or NULL,
-- $6 created at this time or later, or NULL, $7 created before this time, or NULL, $8 bytes, $9 parent_task_id or NULL.
-- `found` is how many rows there are within the limit; those whose predecessors fill the bytes, with what they wait for,
-- are left out.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(
            octet_length(input::text) + octet_length(tools::text) + coalesce(octet_length(output::text), 0)
            + CASE WHEN status = 'waiting' THEN (
                SELECT coalesce(
                    sum(octet_length(arguments::text) + coalesce(octet_length(default_answer::text), 0)), 0
                )
                FROM task_requests
                WHERE task_id = page.id AND answered_at IS NULL
            ) ELSE 0 END
        ) OVER (
            ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM tasks
        WHERE ($2::uuid IS NULL OR id < $2)
          AND ($3::uuid IS NULL OR agent_id = $3)
          AND ($4::text IS NULL OR status = $4)
          AND ($5::text[] IS NULL OR status = ANY ($5))
          AND ($6::timestamptz IS NULL OR created_at >= $6)
          AND ($7::timestamptz IS NULL OR created_at < $7)
          AND ($9::uuid IS NULL OR parent_task_id = $9)
        ORDER BY id DESC
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $8::bigint
ORDER BY id DESC;

-- name: cancel_task
-- $1 id. A repetition keeps the first time.
UPDATE tasks
SET status = CASE status WHEN 'running' THEN status ELSE 'cancelled' END,
    completed_at = CASE status WHEN 'running' THEN NULL ELSE now() END,
    end_unsettled = status <> 'running',
    waiting_since = NULL,
    next_attempt_at = NULL,
    rung_at = NULL,
    turn = NULL,
    cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = $1 AND status IN ('pending', 'running', 'waiting')
RETURNING *;

-- name: lock_ended_task
-- $1 id. The task, whether its agent is there and whether its history is kept, locked until the transaction ends.
SELECT
    tasks.*, agents.is_active AS agent_is_active,
    EXISTS (SELECT FROM task_histories WHERE task_id = tasks.id) AS has_history
FROM tasks
JOIN agents ON agents.id = tasks.agent_id
WHERE tasks.id = $1
FOR UPDATE OF tasks;

-- name: find_unfinished_call
-- $1 id of the task. A tool call that may have been made and must not be made twice.
SELECT tool_name FROM tool_calls WHERE task_id = $1 AND result IS NULL AND NOT repeatable LIMIT 1;

-- name: forget_unfinished_calls
-- $1 id of the task.
DELETE FROM tool_calls WHERE task_id = $1 AND result IS NULL;

-- name: forget_progress
-- $1 id of the task. All that its attempts have done: what a fork was made with, attempt 0, stays.
WITH calls AS (
    DELETE FROM tool_calls WHERE task_id = $1 AND attempt > 0
), requests AS (
    DELETE FROM task_requests WHERE task_id = $1
), writes AS (
    DELETE FROM checkpoint_writes WHERE task_id = $1
)
DELETE FROM checkpoints WHERE task_id = $1 AND attempt > 0;

-- name: forget_unfinished_requests
-- $1 id of the task. What nobody answered is asked again, and a sub-task that came to nothing is another one.
DELETE FROM task_requests
WHERE task_id = $1
  AND (answered_at IS NULL OR child_task_id IN (SELECT id FROM tasks WHERE parent_task_id = $1 AND status <> 'completed'));

-- name: renew_history
-- $1 id of the task. Its next attempt reads the agent and the session anew, as claim_task says; a replay's does not.
UPDATE task_histories SET agent = 'null'
FROM tasks
WHERE task_id = $1 AND tasks.id = $1 AND replay_of_task_id IS NULL;

-- name: retry_task
-- $1 id of a task that failed or was cancelled. The caller rings the doorbell at once. The error stays until the next.
UPDATE tasks
SET status = 'pending',
    retry_count = 0,
    completed_at = NULL,
    cancel_requested_at = NULL,
    end_unsettled = false,
    next_attempt_at = now(),
    rung_at = now(),
    turn = greatest(
        0,
        first_turn(tasks.queue),
        (SELECT max(others.turn) + 1 FROM tasks AS others WHERE status = 'pending' AND others.agent_id = tasks.agent_id)
    )
WHERE id = $1
RETURNING *;
