"""Reading a document goes on after more than the usual three attempts.

It takes long, so it meets more deaths of workers than a run does, and each attempt goes on where the last one was.

Revision: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"

UPGRADE = """UPDATE agents SET config = config || '{"max_retries": 10}' WHERE queue = 'documents'"""
DOWNGRADE = "UPDATE agents SET config = config - 'max_retries' WHERE queue = 'documents'"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
