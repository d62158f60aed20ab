-- name: probe
SELECT
    split_part(current_setting('server_version'), ' ', 1) AS version,
    (SELECT version_num FROM alembic_version) AS revision;

-- name: act_for
-- $1 role, $2 owner, $3 plan_cache_mode, $4 whether plans may do something else than to walk an index. Until the next
-- time, in this session.
SELECT
    set_config('role', $1, false), set_config('hearth.owner', $2, false),
    set_config('plan_cache_mode', $3, false), set_config('enable_seqscan', $4, false),
    set_config('enable_bitmapscan', $4, false), set_config('enable_sort', $4, false);
