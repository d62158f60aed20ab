-- name: lock_session
-- $1 id.
SELECT session_data FROM sessions WHERE id = $1 FOR UPDATE;

-- name: save_session
-- $1 id, $2 session_data.
UPDATE sessions SET session_data = $2, updated_at = now() WHERE id = $1;

-- name: get_session
-- $1 id. The turns are only counted.
SELECT
    id, agent_id, title, forked_from, turn_count, summary, summarized_turns, created_at, updated_at,
    coalesce((session_data ->> 'dropped')::integer, 0) AS dropped
FROM sessions
WHERE id = $1;

-- name: list_sessions
-- $1 limit, $2 and $3 after the session made at this time with this id, or NULL, $4 agent_id or NULL.
SELECT
    id, agent_id, title, forked_from, turn_count, summary, summarized_turns, created_at, updated_at,
    coalesce((session_data ->> 'dropped')::integer, 0) AS dropped
FROM sessions
WHERE ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
  AND ($4::uuid IS NULL OR agent_id = $4)
ORDER BY created_at DESC, id DESC
LIMIT $1;

-- name: list_turns
-- $1 id of the session, $2 limit, $3 after the turn with this number. All that one keeps fits into a gRPC message.
SELECT numbered.number::integer AS number, numbered.turn
FROM sessions
CROSS JOIN LATERAL (
    SELECT turn, position + coalesce((session_data ->> 'dropped')::integer, 0) AS number
    FROM jsonb_array_elements(session_data -> 'turns') WITH ORDINALITY AS turns (turn, position)
) AS numbered
WHERE sessions.id = $1 AND numbered.number > $3
ORDER BY numbered.number
LIMIT $2;

-- name: rename_session
-- $1 id, $2 title or NULL. That is nothing that was said, and leaves updated_at alone.
UPDATE sessions
SET title = $2
WHERE id = $1
RETURNING
    id, agent_id, title, forked_from, turn_count, summary, summarized_turns, created_at, updated_at,
    coalesce((session_data ->> 'dropped')::integer, 0) AS dropped;

-- name: fork_session
-- $1 id of the fork, $2 id of the source, $3 the last turn to copy or NULL, $4 title or NULL. No row where the source
-- is not there or has not that turn, or where the id is known.
INSERT INTO sessions (id, agent_id, owner, title, forked_from, session_data, summary, summarized_turns)
SELECT
    $1, agent_id, owner, coalesce($4, title), id,
    jsonb_build_object(
        'dropped', dropped,
        'turns', jsonb_path_query_array(
            session_data, '$.turns[0 to $last]', jsonb_build_object('last', until_turn - dropped - 1)
        )
    ),
    CASE WHEN summarized_turns <= until_turn THEN summary END,
    CASE WHEN summarized_turns <= until_turn THEN summarized_turns ELSE 0 END
FROM (
    SELECT
        sessions.*,
        coalesce($3::integer, turn_count) AS until_turn,
        coalesce((session_data ->> 'dropped')::integer, 0) AS dropped
    FROM sessions
    WHERE id = $2
) AS source
WHERE until_turn <= turn_count AND ($3 IS NULL OR until_turn > dropped)
ON CONFLICT (id) DO NOTHING
RETURNING
    id, agent_id, title, forked_from, turn_count, summary, summarized_turns, created_at, updated_at,
    coalesce((session_data ->> 'dropped')::integer, 0) AS dropped;

-- name: count_unfinished
-- $1 id of the session.
SELECT count(*) AS count FROM tasks WHERE session_id = $1 AND completed_at IS NULL;

-- name: delete_session
-- $1 id. Its tasks have none from then on.
DELETE FROM sessions WHERE id = $1;

-- name: save_summary
-- $1 id, $2 summary, $3 summarized_turns when it was begun, $4 summarized_turns from now on. No row where another
-- summary came before.
UPDATE sessions
SET summary = $2, summarized_turns = $4
WHERE id = $1 AND summarized_turns = $3 AND $4 > $3 AND $4 <= turn_count
RETURNING TRUE;
