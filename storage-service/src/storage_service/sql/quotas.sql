-- name: lock_quotas
-- Until the transaction ends nobody else, of any number of storage-services, accepts a task of the owner that this one is
-- made for.
SELECT pg_advisory_xact_lock(hashtextextended('quotas/' || acting_owner(), 0));

-- name: measure
-- What the owner has and had: sub-tasks count as well, and are never refused.
SELECT
    (
        SELECT count(*) FROM tasks WHERE owner = acting_owner() AND created_at > now() - interval '1 minute'
    ) AS tasks_per_minute,
    (
        SELECT extract(epoch FROM min(created_at) + interval '1 minute' - now())::double precision
        FROM tasks
        WHERE owner = acting_owner() AND created_at > now() - interval '1 minute'
    ) AS minute_left,
    (SELECT count(*) FROM tasks WHERE owner = acting_owner() AND completed_at IS NULL) AS concurrent_runs;

-- name: measure_tokens
-- Of the model calls whose events are kept: what runs at this moment is known when its calls end.
SELECT
    coalesce(
        sum((context ->> 'prompt_tokens')::bigint + (context ->> 'completion_tokens')::bigint), 0
    )::bigint AS tokens,
    extract(epoch FROM min(timestamp) + interval '1 day' - now())::double precision AS day_left
FROM task_logs
WHERE owner = acting_owner() AND kind = 'usage' AND timestamp > now() - interval '1 day';
