"""Checkpoints, tool calls, fair turns, and the outbox of last events.

Revision: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"

UPGRADE = (
    # A task that waits in the queue has a turn; the least is next. One that waits for its backoff has none yet, nor has
    # one that a storage-service of the revision before accepted: it gets one when its doorbell is rung again.
    # end_unsettled: the task has ended, and its last event is not known to be kept in task_logs.
    """
    ALTER TABLE tasks
        ADD COLUMN turn bigint,
        ADD COLUMN end_unsettled boolean NOT NULL DEFAULT false
    """,
    "UPDATE tasks SET turn = 0 WHERE status = 'pending' AND rung_at IS NOT NULL",
    "ALTER TABLE tasks ADD CHECK (NOT end_unsettled OR completed_at IS NOT NULL)",
    "CREATE INDEX tasks_turn ON tasks (turn, id) WHERE status = 'pending'",
    "CREATE INDEX tasks_agent_turn ON tasks (agent_id, turn) WHERE status = 'pending'",
    "CREATE INDEX tasks_end_unsettled ON tasks (completed_at) WHERE end_unsettled",
    "ALTER TABLE task_attempts ADD COLUMN resumed_from text",
    # What LangGraph keeps of a run: https://reference.langchain.com/python/langgraph/checkpoints. A namespace is a
    # graph within the run's graph; the run's own is ''.
    """
    CREATE TABLE checkpoints (
        task_id uuid NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        namespace text NOT NULL,
        id text NOT NULL,
        parent_id text,
        attempt integer NOT NULL,
        type text NOT NULL,
        data bytea NOT NULL,
        metadata jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (task_id, namespace, id)
    )
    """,
    """
    CREATE TABLE checkpoint_writes (
        task_id uuid NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        namespace text NOT NULL,
        checkpoint_id text NOT NULL,
        step_id text NOT NULL,
        idx integer NOT NULL,
        step_path text NOT NULL,
        channel text NOT NULL,
        type text NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (task_id, namespace, checkpoint_id, step_id, idx)
    )
    """,
    # A row without a result is a call that may or may not have been made.
    """
    CREATE TABLE tool_calls (
        task_id uuid NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        call_id text NOT NULL,
        attempt integer NOT NULL,
        tool_name text NOT NULL,
        arguments jsonb NOT NULL,
        repeatable boolean NOT NULL,
        result jsonb,
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        PRIMARY KEY (task_id, call_id),
        CHECK ((ended_at IS NULL) = (result IS NULL))
    )
    """,
)

DOWNGRADE = (
    "DROP TABLE tool_calls",
    "DROP TABLE checkpoint_writes",
    "DROP TABLE checkpoints",
    "ALTER TABLE task_attempts DROP COLUMN resumed_from",
    # The indexes and conditions on a column go with it.
    "ALTER TABLE tasks DROP COLUMN turn, DROP COLUMN end_unsettled",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
