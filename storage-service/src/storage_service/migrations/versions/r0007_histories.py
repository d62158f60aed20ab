"""What is kept of how tasks were run, and the tasks that are made from it.

Revision: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"

UPGRADE = (
    """
    ALTER TABLE tasks
        ADD COLUMN forked_from_task_id uuid REFERENCES tasks (id) ON DELETE SET NULL,
        ADD COLUMN replay_of_task_id uuid REFERENCES tasks (id) ON DELETE SET NULL
    """,
    # What a run was given beside its input: the agent and the session's turns as they were when its last attempt began.
    # A fork has `answers` to give instead of making calls; it, and a replay of it, begin at first_checkpoint_id. The
    # row goes with the checkpoints and the tool calls of its task when they are kept no longer.
    """
    CREATE TABLE task_histories (
        task_id uuid PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
        agent jsonb NOT NULL,
        session_summary text,
        session_turns jsonb NOT NULL DEFAULT '[]',
        answers jsonb NOT NULL DEFAULT '{}',
        first_checkpoint_id text,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX task_histories_created_at ON task_histories (created_at)",
    # Of tasks that completed before, nothing was kept.
    """
    INSERT INTO task_histories (task_id, agent, session_turns)
    SELECT tasks.id, to_jsonb(agents), coalesce(session_data -> 'turns', '[]')
    FROM tasks
    JOIN agents ON agents.id = agent_id
    LEFT JOIN sessions ON sessions.id = session_id
    WHERE attempt > 0 AND status <> 'completed'
    """,
)

DOWNGRADE = (
    # The revision before keeps nothing of a completed task.
    "DELETE FROM tool_calls USING tasks WHERE tasks.id = task_id AND status = 'completed'",
    "DELETE FROM checkpoint_writes USING tasks WHERE tasks.id = task_id AND status = 'completed'",
    "DELETE FROM checkpoints USING tasks WHERE tasks.id = task_id AND status = 'completed'",
    "DROP TABLE task_histories",
    "ALTER TABLE tasks DROP COLUMN forked_from_task_id, DROP COLUMN replay_of_task_id",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
