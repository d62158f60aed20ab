-- name: lock_session
-- $1 id.
SELECT session_data FROM sessions WHERE id = $1 FOR UPDATE;

-- name: save_session
-- $1 id, $2 session_data.
UPDATE sessions SET session_data = $2, updated_at = now() WHERE id = $1;
