"""The tables of Hearth.

Revision: 0001
"""

from alembic import op

revision = "0001"
down_revision = None

UPGRADE = (
    "CREATE EXTENSION IF NOT EXISTS vector",
    """
    CREATE TABLE agents (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        description text NOT NULL,
        model_name text NOT NULL,
        config jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        is_active boolean NOT NULL DEFAULT true
    )
    """,
    """
    CREATE TABLE agent_tools (
        id uuid PRIMARY KEY,
        agent_id uuid NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
        tool_name text NOT NULL,
        tool_config jsonb NOT NULL DEFAULT '{}',
        is_enabled boolean NOT NULL DEFAULT true,
        UNIQUE (agent_id, tool_name)
    )
    """,
    # session_data is {"turns": [{"role", "content"}, ...]}, the oldest first.
    """
    CREATE TABLE sessions (
        id uuid PRIMARY KEY,
        agent_id uuid NOT NULL REFERENCES agents (id),
        session_data jsonb NOT NULL DEFAULT '{"turns": []}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX sessions_agent_id ON sessions (agent_id)",
    # A pending task waits until next_attempt_at; rung_at is when its doorbell last rang for this wait, NULL if never.
    # A running task has a lease. The CHECKs hold what every statement relies on.
    """
    CREATE TABLE tasks (
        id uuid PRIMARY KEY,
        agent_id uuid NOT NULL REFERENCES agents (id),
        session_id uuid REFERENCES sessions (id),
        status text NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
        input jsonb NOT NULL,
        output jsonb,
        error_code text,
        error_message text,
        retry_count integer NOT NULL DEFAULT 0,
        max_retries integer NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        completed_at timestamptz,
        idempotency_key text,
        request_hash text NOT NULL,
        traceparent text NOT NULL,
        worker_id text,
        lease_expires_at timestamptz,
        cancel_requested_at timestamptz,
        next_attempt_at timestamptz,
        rung_at timestamptz,
        CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
        CHECK ((status = 'running') = (lease_expires_at IS NOT NULL)),
        CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL))
    )
    """,
    "CREATE UNIQUE INDEX tasks_idempotency_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX tasks_agent_id ON tasks (agent_id, id)",
    "CREATE INDEX tasks_session_id ON tasks (session_id) WHERE session_id IS NOT NULL",
    "CREATE INDEX tasks_status ON tasks (status, id)",
    "CREATE INDEX tasks_created_at ON tasks (created_at)",
    # The sweep reads these three from their beginning, however long the queue is.
    "CREATE INDEX tasks_never_rung ON tasks (next_attempt_at) WHERE status = 'pending' AND rung_at IS NULL",
    "CREATE INDEX tasks_rung ON tasks (rung_at) WHERE status = 'pending'",
    "CREATE INDEX tasks_lease ON tasks (lease_expires_at) WHERE status = 'running'",
    "CREATE INDEX tasks_due ON tasks (next_attempt_at) WHERE status = 'pending'",
    """
    CREATE TABLE task_attempts (
        task_id uuid NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
        attempt integer NOT NULL,
        worker_id text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        outcome text CHECK (
            outcome IN ('completed', 'failed', 'cancelled', 'retried', 'handed_over', 'worker_lost')
        ),
        error_code text,
        error_message text,
        PRIMARY KEY (task_id, attempt),
        CHECK ((ended_at IS NULL) = (outcome IS NULL))
    )
    """,
    # No foreign keys: events may come before, and stay after, the rows they speak of. stream_id is
    # "{stream_ms}-{stream_seq}"; only the numbers sort as Redis does.
    """
    CREATE TABLE task_logs (
        id uuid NOT NULL,
        task_id uuid NOT NULL,
        agent_id uuid NOT NULL,
        attempt integer NOT NULL,
        kind text NOT NULL,
        level text NOT NULL,
        message text NOT NULL,
        context jsonb NOT NULL,
        timestamp timestamptz NOT NULL,
        traceparent text NOT NULL,
        stream_id text NOT NULL,
        stream_ms bigint NOT NULL,
        stream_seq bigint NOT NULL,
        PRIMARY KEY (stream_ms, stream_seq)
    )
    """,
    "CREATE UNIQUE INDEX task_logs_stream_id ON task_logs (stream_id)",
    "CREATE INDEX task_logs_task_order ON task_logs (task_id, stream_ms, stream_seq)",
    "CREATE INDEX task_logs_agent_order ON task_logs (agent_id, stream_ms, stream_seq)",
    "CREATE INDEX task_logs_task_time ON task_logs (task_id, timestamp)",
    "CREATE INDEX task_logs_agent_time ON task_logs (agent_id, timestamp)",
    "CREATE INDEX task_logs_level_time ON task_logs (level, timestamp)",
    # Rows arrive nearly in the order of time, so a few kilobytes of BRIN find a range of it.
    "CREATE INDEX task_logs_time ON task_logs USING brin (timestamp) WITH (pages_per_range = 32)",
    """
    CREATE TABLE log_subscriptions (
        id uuid PRIMARY KEY,
        session_id uuid REFERENCES sessions (id) ON DELETE SET NULL,
        name text NOT NULL UNIQUE,
        filters jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        last_seen_timestamp timestamptz,
        last_seen_stream_id text
    )
    """,
    # Models differ in dimension, so the column has none; each model in use gets a partial index of its own.
    """
    CREATE TABLE embeddings (
        id uuid PRIMARY KEY,
        task_id uuid REFERENCES tasks (id) ON DELETE CASCADE,
        vector vector NOT NULL,
        content_hash text NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}',
        model text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX embeddings_task_id ON embeddings (task_id)",
    "CREATE INDEX embeddings_content_hash ON embeddings (model, content_hash)",
)

# The extension stays: it may have been there before, and others may use it.
DOWNGRADE = (
    "DROP TABLE embeddings",
    "DROP TABLE log_subscriptions",
    "DROP TABLE task_logs",
    "DROP TABLE task_attempts",
    "DROP TABLE tasks",
    "DROP TABLE sessions",
    "DROP TABLE agent_tools",
    "DROP TABLE agents",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
