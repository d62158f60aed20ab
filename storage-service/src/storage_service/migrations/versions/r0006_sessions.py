"""Sessions that have a title, a summary and forks, and that can be deleted.

Revision: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"

UPGRADE = (
    # session_data is {"turns": [{"role", "content", "task_id", "created_at"}, ...], "dropped"}: the newest turns, and
    # how many older ones are not kept any more. A turn of an earlier revision has the first two alone. What a run is
    # given of the turns up to summarized_turns is the summary.
    """
    ALTER TABLE sessions
        ADD COLUMN title text,
        ADD COLUMN forked_from uuid REFERENCES sessions (id) ON DELETE SET NULL,
        ADD COLUMN summary text,
        ADD COLUMN summarized_turns integer NOT NULL DEFAULT 0,
        ADD COLUMN turn_count integer NOT NULL GENERATED ALWAYS AS (
            coalesce((session_data ->> 'dropped')::integer, 0) + jsonb_array_length(session_data -> 'turns')
        ) STORED,
        ADD CHECK ((summary IS NULL) = (summarized_turns = 0))
    """,
    "CREATE INDEX sessions_forked_from ON sessions (forked_from) WHERE forked_from IS NOT NULL",
    "CREATE INDEX sessions_created_at ON sessions (created_at, id)",
    "DROP INDEX sessions_agent_id",
    "CREATE INDEX sessions_agent_id ON sessions (agent_id, created_at, id)",
    "ALTER TABLE tasks DROP CONSTRAINT tasks_session_id_fkey",
    """
    ALTER TABLE tasks
        ADD CONSTRAINT tasks_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE SET NULL
    """,
)

DOWNGRADE = (
    "ALTER TABLE tasks DROP CONSTRAINT tasks_session_id_fkey",
    "ALTER TABLE tasks ADD CONSTRAINT tasks_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions (id)",
    "DROP INDEX sessions_agent_id, sessions_created_at",
    "CREATE INDEX sessions_agent_id ON sessions (agent_id)",
    """
    ALTER TABLE sessions
        DROP COLUMN turn_count, DROP COLUMN summarized_turns, DROP COLUMN summary, DROP COLUMN forked_from,
        DROP COLUMN title
    """,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
