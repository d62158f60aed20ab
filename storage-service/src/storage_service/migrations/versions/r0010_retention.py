"""Indexes by which ended tasks are found and deleted.

Revision: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"

UPGRADE = (
    "CREATE INDEX tasks_completed_at ON tasks (completed_at) WHERE completed_at IS NOT NULL",
    # Each foreign key to a task that goes is looked up by its column.
    "CREATE INDEX tasks_forked_from ON tasks (forked_from_task_id) WHERE forked_from_task_id IS NOT NULL",
    "CREATE INDEX tasks_replay_of ON tasks (replay_of_task_id) WHERE replay_of_task_id IS NOT NULL",
    "CREATE INDEX documents_task_id ON documents (task_id) WHERE task_id IS NOT NULL",
)

# The revision before lets an agent name no queue, and looks at none but its own two.
DOWNGRADE = (
    "UPDATE tasks SET queue = 'runs' WHERE queue NOT IN ('runs', 'documents') AND completed_at IS NULL",
    "UPDATE agents SET queue = 'runs' WHERE queue NOT IN ('runs', 'documents')",
    "DROP INDEX tasks_completed_at, tasks_forked_from, tasks_replay_of, documents_task_id",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
