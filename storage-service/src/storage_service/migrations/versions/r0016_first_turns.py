"""The first turn is found at the end of its index also where PostgreSQL takes the tasks that wait for few.

It counted them when it last analyzed the table, and they may have been few then. It takes another index of what waits
for as good, and each task that is accepted would be preceded by a look at all of them.

Revision: 0016
"""

from alembic import op

revision = "0016"
down_revision = "0015"

UPGRADE = (
    """
    CREATE OR REPLACE FUNCTION first_turn(of_queue text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    AS $$
        SELECT turn FROM tasks WHERE status = 'pending' AND turn IS NOT NULL AND queue = of_queue ORDER BY turn LIMIT 1
    $$
    """,
)
DOWNGRADE = (
    """
    CREATE OR REPLACE FUNCTION first_turn(of_queue text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ SELECT min(turn) FROM tasks WHERE status = 'pending' AND queue = of_queue $$
    """,
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
