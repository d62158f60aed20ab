"""Keys, tickets and what was done with them. The role hearth_tenant is granted none of it.

Revision: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"

UPGRADE = (
    # digest is the SHA-256 of the whole key.
    """
    CREATE TABLE api_keys (
        id uuid PRIMARY KEY,
        prefix text NOT NULL UNIQUE,
        digest bytea NOT NULL CHECK (octet_length(digest) = 32),
        name text NOT NULL,
        owner text NOT NULL CHECK (owner <> ''),
        scopes text[] NOT NULL,
        tasks_per_minute integer,
        concurrent_runs integer,
        tokens_per_day bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz
    )
    """,
    """
    CREATE TABLE tickets (
        digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
        granted text NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX tickets_expires_at ON tickets (expires_at)",
    """
    CREATE TABLE actions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL,
        actor text NOT NULL,
        owner text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        status integer NOT NULL,
        code text NOT NULL,
        address text NOT NULL
    )
    """,
    "CREATE INDEX actions_at ON actions (at)",
    "CREATE INDEX actions_actor ON actions (actor, id)",
)

DOWNGRADE = ("DROP TABLE actions", "DROP TABLE tickets", "DROP TABLE api_keys")


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
