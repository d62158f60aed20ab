"""Tools of agents: several of a kind, each by a name of its own, with secrets and bounds.

Revision: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"

UPGRADE = (
    # `tool_name` names the kind of tool, `name` this one among the agent's. `secrets` is ciphertext that agent-service
    # alone can read, and is empty where tool_config holds no secret. What is NULL is the tool's own.
    """
    ALTER TABLE agent_tools
        ADD COLUMN name text,
        ADD COLUMN description text,
        ADD COLUMN needs_approval boolean,
        ADD COLUMN timeout_seconds double precision,
        ADD COLUMN result_characters integer,
        ADD COLUMN secrets bytea NOT NULL DEFAULT '',
        ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now()
    """,
    "UPDATE agent_tools SET name = tool_name",
    "ALTER TABLE agent_tools ALTER COLUMN name SET NOT NULL",
    "ALTER TABLE agent_tools ADD CONSTRAINT agent_tools_name UNIQUE (agent_id, name)",
    "ALTER TABLE agent_tools DROP CONSTRAINT agent_tools_agent_id_tool_name_key",
)

DOWNGRADE = (
    # One of a kind is what the revision before has room for: the oldest.
    """
    DELETE FROM agent_tools AS later
    USING agent_tools AS earlier
    WHERE earlier.agent_id = later.agent_id AND earlier.tool_name = later.tool_name AND earlier.id < later.id
    """,
    "ALTER TABLE agent_tools ADD CONSTRAINT agent_tools_agent_id_tool_name_key UNIQUE (agent_id, tool_name)",
    # Its UNIQUE goes with `name`.
    """
    ALTER TABLE agent_tools
        DROP COLUMN name,
        DROP COLUMN description,
        DROP COLUMN needs_approval,
        DROP COLUMN timeout_seconds,
        DROP COLUMN result_characters,
        DROP COLUMN secrets,
        DROP COLUMN created_at,
        DROP COLUMN updated_at
    """,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
