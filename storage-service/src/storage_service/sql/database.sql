-- name: probe
SELECT
    split_part(current_setting('server_version'), ' ', 1) AS version,
    (SELECT version_num FROM alembic_version) AS revision;

-- name: act_for
-- $1 role, $2 owner. Until the next time, in this session.
SELECT set_config('role', $1, false), set_config('hearth.owner', $2, false);
