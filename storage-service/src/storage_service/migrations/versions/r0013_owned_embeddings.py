"""A memory and its vector are made in one statement, in which the vector's policy cannot see the memory yet.

What is made is told apart by the memory, which an owner must see to find its vectors at all.

Revision: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"

UPGRADE = (
    "DROP POLICY belonging ON embeddings",
    """
    CREATE POLICY belonging ON embeddings
    USING (EXISTS (SELECT FROM memories WHERE memories.id = embeddings.memory_id))
    WITH CHECK (true)
    """,
)
DOWNGRADE = (
    "DROP POLICY belonging ON embeddings",
    """
    CREATE POLICY belonging ON embeddings
    USING (EXISTS (SELECT FROM memories WHERE memories.id = embeddings.memory_id))
    """,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
