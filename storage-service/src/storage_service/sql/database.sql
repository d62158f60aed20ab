-- name: probe
SELECT
    split_part(current_setting('server_version'), ' ', 1) AS version,
    (SELECT version_num FROM alembic_version) AS revision;
