"""Tasks that wait for answers, and sub-tasks.

Revision: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"

UPGRADE = (
    "ALTER TABLE tasks DROP CONSTRAINT tasks_status_check",
    # root_task_id is the top of the task's tree, its own id there, and NULL where there is no tree. Whoever changes
    # more than one task of a tree holds the tree's advisory lock. end_unsettled now also says that the event which
    # tells of a wait is not known to be kept.
    """
    ALTER TABLE tasks
        ADD COLUMN parent_task_id uuid REFERENCES tasks (id) ON DELETE SET NULL,
        ADD COLUMN root_task_id uuid,
        ADD COLUMN depth integer NOT NULL DEFAULT 0,
        ADD COLUMN waiting_since timestamptz,
        ADD COLUMN tools jsonb NOT NULL DEFAULT '[]',
        ADD CONSTRAINT tasks_status_check
            CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled')),
        ADD CONSTRAINT tasks_waiting_check CHECK ((status = 'waiting') = (waiting_since IS NOT NULL)),
        DROP CONSTRAINT tasks_check3,
        ADD CONSTRAINT tasks_unsettled_check
            CHECK (NOT end_unsettled OR completed_at IS NOT NULL OR waiting_since IS NOT NULL)
    """,
    "CREATE INDEX tasks_parent ON tasks (parent_task_id, id) WHERE parent_task_id IS NOT NULL",
    "CREATE INDEX tasks_root ON tasks (root_task_id) WHERE root_task_id IS NOT NULL",
    "DROP INDEX tasks_end_unsettled",
    "CREATE INDEX tasks_end_unsettled ON tasks ((coalesce(completed_at, waiting_since))) WHERE end_unsettled",
    "ALTER TABLE task_attempts DROP CONSTRAINT task_attempts_outcome_check",
    """
    ALTER TABLE task_attempts
        ADD CONSTRAINT task_attempts_outcome_check CHECK (
            outcome IN ('completed', 'failed', 'cancelled', 'retried', 'handed_over', 'worker_lost', 'waiting')
        )
    """,
    # Of kind task, the answer is how the child ended.
    """
    CREATE TABLE task_requests (
        task_id uuid NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        call_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('tool_call', 'approval', 'question', 'task')),
        name text NOT NULL,
        arguments jsonb NOT NULL,
        asked_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        default_answer jsonb,
        answer jsonb,
        answered_at timestamptz,
        child_task_id uuid REFERENCES tasks (id) ON DELETE CASCADE,
        PRIMARY KEY (task_id, call_id),
        CHECK ((answer IS NULL) = (answered_at IS NULL)),
        CHECK ((kind = 'task') = (child_task_id IS NOT NULL))
    )
    """,
    "CREATE INDEX task_requests_expiry ON task_requests (expires_at) WHERE answered_at IS NULL",
    "CREATE UNIQUE INDEX task_requests_child ON task_requests (child_task_id) WHERE child_task_id IS NOT NULL",
    "CREATE INDEX task_requests_open_child ON task_requests (child_task_id)"
    " WHERE child_task_id IS NOT NULL AND answered_at IS NULL",
)

# What waits is what the revision before has no word for.
DOWNGRADE = (
    "DROP TABLE task_requests",
    """
    UPDATE tasks
    SET status = 'failed', completed_at = now(), end_unsettled = false, error_code = 'cancelled',
        error_message = 'Hearth went back to a version that cannot wait.'
    WHERE status = 'waiting'
    """,
    "UPDATE task_attempts SET outcome = 'handed_over' WHERE outcome = 'waiting'",
    "ALTER TABLE task_attempts DROP CONSTRAINT task_attempts_outcome_check",
    """
    ALTER TABLE task_attempts
        ADD CONSTRAINT task_attempts_outcome_check CHECK (
            outcome IN ('completed', 'failed', 'cancelled', 'retried', 'handed_over', 'worker_lost')
        )
    """,
    "DROP INDEX tasks_end_unsettled",
    "CREATE INDEX tasks_end_unsettled ON tasks (completed_at) WHERE end_unsettled",
    "ALTER TABLE tasks DROP CONSTRAINT tasks_status_check",
    # The conditions on a column go with it.
    """
    ALTER TABLE tasks
        DROP COLUMN parent_task_id, DROP COLUMN root_task_id, DROP COLUMN depth, DROP COLUMN waiting_since,
        DROP COLUMN tools,
        ADD CONSTRAINT tasks_status_check
            CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
        ADD CONSTRAINT tasks_check3 CHECK (NOT end_unsettled OR completed_at IS NOT NULL)
    """,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
