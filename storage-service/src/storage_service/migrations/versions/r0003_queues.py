"""Queues: documents are read in one of their own, by an agent of Hearth's own.

Revision: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"

UPGRADE = (
    # Clients run, list and change only agents of the queue `runs`.
    "ALTER TABLE agents ADD COLUMN queue text NOT NULL DEFAULT 'runs'",
    "ALTER TABLE tasks ADD COLUMN queue text NOT NULL DEFAULT 'runs'",
    # What looks for the first of a queue reads these from their beginning, however long another queue is.
    "DROP INDEX tasks_turn, tasks_never_rung, tasks_rung",
    "CREATE INDEX tasks_turn ON tasks (queue, turn, id) WHERE status = 'pending'",
    "CREATE INDEX tasks_never_rung ON tasks (queue, next_attempt_at) WHERE status = 'pending' AND rung_at IS NULL",
    "CREATE INDEX tasks_rung ON tasks (queue, rung_at) WHERE status = 'pending'",
    # hearth_runtime.agents.DOCUMENTS_AGENT_ID
    """
    INSERT INTO agents (id, name, description, model_name, config, queue)
    VALUES (
        '01900000-0000-7000-8000-000000000001', 'documents',
        'Reads documents into collections. POST /api/v1/documents starts its runs.',
        'none', '{"workflow": "ingest", "timeout_seconds": 86400}', 'documents'
    )
    """,
)

DOWNGRADE = (
    "DELETE FROM tasks WHERE queue = 'documents'",
    "DELETE FROM agents WHERE queue = 'documents'",
    "DROP INDEX tasks_turn, tasks_never_rung, tasks_rung",
    "CREATE INDEX tasks_never_rung ON tasks (next_attempt_at) WHERE status = 'pending' AND rung_at IS NULL",
    "CREATE INDEX tasks_rung ON tasks (rung_at) WHERE status = 'pending'",
    "CREATE INDEX tasks_turn ON tasks (turn, id) WHERE status = 'pending'",
    "ALTER TABLE tasks DROP COLUMN queue",
    "ALTER TABLE agents DROP COLUMN queue",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
