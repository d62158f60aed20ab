"""What warns or failed is found in its order among any number of events.

Few events are not `info`, so this index is small, and appending the others does not touch it.

Revision: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"

UPGRADE = ("CREATE INDEX task_logs_troubles ON task_logs (stream_ms, stream_seq, level) WHERE level <> 'info'",)
DOWNGRADE = ("DROP INDEX task_logs_troubles",)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
