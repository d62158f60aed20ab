-- name: insert_tool
-- $1 id, $2 agent_id, $3 name, $4 tool_name, $5 tool_config, $6 secrets, $7 is_enabled, $8 description,
-- $9 needs_approval, $10 timeout_seconds, $11 result_characters, $12 how many tools an agent may have.
-- No row where the agent is not there or Hearth's own, the id or the name is taken, or there are too many. Those that others insert at
-- this moment are not counted: the bound is one of size, and a few more do no harm.
INSERT INTO agent_tools (
    id, agent_id, name, tool_name, tool_config, secrets, is_enabled, description, needs_approval, timeout_seconds,
    result_characters
)
SELECT $1, agents.id, $3, $4, $5, $6, $7, $8, $9, $10, $11
FROM agents
WHERE agents.id = $2 AND agents.queue <> 'documents' AND (SELECT count(*) FROM agent_tools WHERE agent_id = $2) < $12::integer
ON CONFLICT DO NOTHING
RETURNING *;

-- name: find_obstacles
-- $1 agent_id, $2 name. No row where the agent is not there.
SELECT
    queue = 'documents' AS is_reserved,
    EXISTS (SELECT FROM agent_tools WHERE agent_id = $1 AND name = $2) AS is_name_taken
FROM agents
WHERE id = $1;

-- name: get_tool
-- $1 agent_id, $2 id.
SELECT * FROM agent_tools WHERE agent_id = $1 AND id = $2;

-- name: list_tools
-- $1 agent_id, $2 limit, $3 after this id or NULL, $4 is_enabled or NULL, $5 bytes. `found` as in list_agents.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(tool_config::text) + octet_length(secrets)) OVER (
            ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM agent_tools
        WHERE agent_id = $1
          AND ($3::uuid IS NULL OR id > $3)
          AND ($4::boolean IS NULL OR is_enabled = $4)
        ORDER BY id
        LIMIT $2
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $5::bigint
ORDER BY id;

-- name: update_tool
-- $1 id, $2 agent_id, $3 name, $4 tool_name, $5 tool_config, $6 secrets, $7 is_enabled, $8 description,
-- $9 needs_approval, $10 timeout_seconds, $11 result_characters, $12 what the secrets are to have been, or NULL.
UPDATE agent_tools
SET name = $3, tool_name = $4, tool_config = $5, secrets = $6, is_enabled = $7, description = $8,
    needs_approval = $9, timeout_seconds = $10, result_characters = $11, updated_at = now()
WHERE id = $1 AND agent_id = $2 AND ($12::bytea IS NULL OR secrets = $12)
RETURNING *;

-- name: list_secrets
-- $1 limit, $2 after this id or NULL, $3 bytes. Of the tools of all agents. `found` as in list_agents.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(tool_config::text) + octet_length(secrets)) OVER (
            ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT *
        FROM agent_tools
        WHERE octet_length(secrets) > 0 AND ($2::uuid IS NULL OR id > $2)
        ORDER BY id
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $3::bigint
ORDER BY id;

-- name: replace_secrets
-- $1 agent_id, $2 id, $3 what they are to have been, $4 what they are then. The tool is what it was: its time stays.
UPDATE agent_tools SET secrets = $4 WHERE agent_id = $1 AND id = $2 AND secrets = $3 RETURNING id;

-- name: delete_tool
-- $1 agent_id, $2 id.
DELETE FROM agent_tools WHERE agent_id = $1 AND id = $2 RETURNING id;
