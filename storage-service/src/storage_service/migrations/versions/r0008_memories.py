"""What agents remember, and for which user a task runs.

Revision: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"

UPGRADE = (
    "ALTER TABLE tasks ADD COLUMN end_user text",
    # subject is the session's id or the user; empty for the agent. A row that is superseded is history.
    """
    CREATE TABLE memories (
        id uuid PRIMARY KEY,
        agent_id uuid NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
        scope text NOT NULL CHECK (scope IN ('agent', 'session', 'user')),
        subject text NOT NULL,
        session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
        content text NOT NULL,
        content_hash text NOT NULL,
        topic text,
        importance double precision NOT NULL CHECK (importance BETWEEN 0 AND 1),
        source text NOT NULL,
        task_id uuid REFERENCES tasks (id) ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        last_recalled_at timestamptz,
        recall_count integer NOT NULL DEFAULT 0,
        superseded_by uuid REFERENCES memories (id) ON DELETE SET NULL,
        superseded_at timestamptz,
        CHECK ((scope = 'agent') = (subject = '')),
        CHECK ((scope = 'session') = (session_id IS NOT NULL)),
        CHECK (superseded_by IS NULL OR superseded_at IS NOT NULL)
    )
    """,
    """
    CREATE UNIQUE INDEX memories_content_hash ON memories (agent_id, scope, subject, content_hash)
    WHERE superseded_at IS NULL
    """,
    "CREATE INDEX memories_subject ON memories (agent_id, scope, subject, topic)",
    "CREATE INDEX memories_agent_id ON memories (agent_id, id)",
    "CREATE INDEX memories_session_id ON memories (session_id) WHERE session_id IS NOT NULL",
    "CREATE INDEX memories_task_id ON memories (task_id) WHERE task_id IS NOT NULL",
    "CREATE INDEX memories_superseded_by ON memories (superseded_by) WHERE superseded_by IS NOT NULL",
    # Each embedding model in use gets an index of its own: storage_service.vector_indexes.
    "ALTER TABLE embeddings ADD COLUMN memory_id uuid REFERENCES memories (id) ON DELETE CASCADE",
    "CREATE UNIQUE INDEX embeddings_memory_id ON embeddings (memory_id, model) WHERE memory_id IS NOT NULL",
)

DOWNGRADE = (
    "DELETE FROM embeddings WHERE memory_id IS NOT NULL",
    "ALTER TABLE embeddings DROP COLUMN memory_id",
    "DROP TABLE memories",
    "ALTER TABLE tasks DROP COLUMN end_user",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
