"""Who owns what, and that others do not see it: docs/adr/0014-owners.md.

Statements that are made for an owner run in the role hearth_tenant with the setting hearth.owner. What they find and
change is decided by the policies here and by nothing else, so that no statement can forget it. Hearth's own statements,
and those for who sees all, run in the role that owns the tables, to which policies do not apply.

A table that hearth_tenant is not granted does not exist for owners: a new one is closed until somebody thinks of it.

Revision: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"

# A row is its maker's where the statement names no other owner; empty is nobody's, as is all that was there before.
OWNER = "coalesce(current_setting('hearth.owner', true), '')"
OWNED = ("agents", "sessions", "tasks", "collections", "log_subscriptions")
# What is seen by who sees what it belongs to: by the column, the table that this names.
BELONGING = {
    "agent_tools": ("agent_id", "agents"),
    "memories": ("agent_id", "agents"),
    "embeddings": ("memory_id", "memories"),
    "task_attempts": ("task_id", "tasks"),
    "checkpoints": ("task_id", "tasks"),
    "checkpoint_writes": ("task_id", "tasks"),
    "tool_calls": ("task_id", "tasks"),
    "task_histories": ("task_id", "tasks"),
    "task_requests": ("task_id", "tasks"),
    "documents": ("collection_id", "collections"),
    "document_parts": ("document_id", "documents"),
    "document_texts": ("document_id", "documents"),
}
# These have no policy: a search walks along their indexes and takes every row through its document, which has one; and
# PostgreSQL hides the statistics of a table with policies, by which searches know which words are common.
THROUGH_DOCUMENTS = ("chunks", "chunk_vectors")
WRITTEN = (*OWNED, *BELONGING, *THROUGH_DOCUMENTS)

UPGRADE = (
    # Roles are the server's, not the database's: another database of it, or who runs it, may have made this one. Then
    # nothing is asked of the login but that it is a member.
    """
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hearth_tenant') THEN
            BEGIN
                CREATE ROLE hearth_tenant NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, 'hearth_tenant', 'SET') THEN
            GRANT hearth_tenant TO CURRENT_USER;
        END IF;
    END
    $$
    """,
    """
    DO $$
    BEGIN
        EXECUTE 'GRANT USAGE ON SCHEMA ' || quote_ident(current_schema()) || ' TO hearth_tenant';
    END
    $$
    """,
    *(f"ALTER TABLE {table} ADD COLUMN owner text NOT NULL DEFAULT {OWNER}" for table in OWNED),
    # Events are written for all owners at once.
    "ALTER TABLE task_logs ADD COLUMN owner text NOT NULL DEFAULT ''",
    # Lists of one owner go along these.
    "CREATE INDEX agents_owner ON agents (owner, id)",
    "CREATE INDEX sessions_owner ON sessions (owner, created_at, id)",
    "CREATE INDEX tasks_owner ON tasks (owner, id)",
    "CREATE INDEX tasks_owner_created_at ON tasks (owner, created_at)",
    "CREATE INDEX tasks_owner_open ON tasks (owner) WHERE completed_at IS NULL",
    "CREATE INDEX task_logs_owner_order ON task_logs (owner, stream_ms, stream_seq)",
    # What an owner's runs used within a day.
    "CREATE INDEX task_logs_usage ON task_logs (owner, timestamp) WHERE kind = 'usage'",
    # Names and keys are each owner's own. A storage-service of the revision before cannot keep the places of named
    # subscriptions from here on, and its clients see events of a second again.
    "DROP INDEX tasks_idempotency_key",
    """
    CREATE UNIQUE INDEX tasks_idempotency_key ON tasks (owner, idempotency_key) WHERE idempotency_key IS NOT NULL
    """,
    "ALTER TABLE collections DROP CONSTRAINT collections_name_key",
    "ALTER TABLE collections ADD CONSTRAINT collections_owner_name_key UNIQUE (owner, name)",
    "ALTER TABLE log_subscriptions DROP CONSTRAINT log_subscriptions_name_key",
    "ALTER TABLE log_subscriptions ADD CONSTRAINT log_subscriptions_owner_name_key UNIQUE (owner, name)",
    # For whom the present statement is made.
    f"CREATE FUNCTION acting_owner() RETURNS text LANGUAGE sql STABLE RETURN {OWNER}",
    # Who sees all may see several of a name: their own comes first.
    """
    CREATE FUNCTION collection_named(wanted text) RETURNS uuid
    LANGUAGE sql STABLE
    AS $$ SELECT id FROM collections WHERE name = wanted ORDER BY owner <> acting_owner(), owner LIMIT 1 $$
    """,
    # A task is its agent's owner's, whoever starts it, so that all that it needs is there for it. One that reads
    # documents is their collection's owner's.
    """
    CREATE FUNCTION owner_of_task(agent uuid, input jsonb) RETURNS text
    LANGUAGE sql STABLE
    AS $$
        SELECT coalesce(
            CASE
                WHEN input ? 'document_id' THEN (
                    SELECT collections.owner
                    FROM documents
                    JOIN collections ON collections.id = collection_id
                    WHERE documents.id = (input ->> 'document_id')::uuid
                )
                WHEN input ? 'collection_id' THEN (
                    SELECT owner FROM collections WHERE id = (input ->> 'collection_id')::uuid
                )
            END,
            acting_owner()
        )
        FROM agents WHERE id = agent AND queue = 'documents'
        UNION ALL
        SELECT owner FROM agents WHERE id = agent AND queue <> 'documents'
    $$
    """,
    # Owners take turns with each other, and see none of the others' tasks: these two look at all.
    """
    CREATE FUNCTION first_turn(of_queue text) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$ SELECT min(turn) FROM tasks WHERE status = 'pending' AND queue = of_queue $$
    """,
    """
    CREATE FUNCTION common_words() RETURNS TABLE (lexeme text, frequency real)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
    AS $$
        SELECT common.lexeme, common.frequency
        FROM pg_stats, unnest(most_common_elems::text::text[], most_common_elem_freqs) AS common (lexeme, frequency)
        WHERE schemaname = current_schema() AND tablename = 'chunks' AND attname = 'words'
    $$
    """,
    # Nobody calls by chance what runs in another's name.
    "REVOKE ALL ON FUNCTION first_turn(text), common_words() FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION first_turn(text), common_words() TO hearth_tenant",
    *(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO hearth_tenant" for table in WRITTEN),
    "GRANT SELECT ON task_logs TO hearth_tenant",
    *(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY" for table in (*OWNED, *BELONGING, "task_logs")),
    # Subqueries, so that they are asked once in a statement and not for each row.
    *(f"CREATE POLICY owned ON {table} USING (owner = (SELECT {OWNER}))" for table in (*OWNED, "task_logs")),
    *(
        f"CREATE POLICY belonging ON {table} USING (EXISTS (SELECT FROM {parent} WHERE {parent}.id = {table}.{column}))"
        for table, (column, parent) in BELONGING.items()
    ),
    # Hearth's own agent, which reads documents, is there for everybody.
    "CREATE POLICY hearths_own ON agents FOR SELECT USING (queue = 'documents')",
)

DOWNGRADE = (
    *(f"DROP POLICY belonging ON {table}" for table in BELONGING),
    "DROP POLICY hearths_own ON agents",
    *(f"DROP POLICY owned ON {table}" for table in (*OWNED, "task_logs")),
    *(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY" for table in (*OWNED, *BELONGING, "task_logs")),
    *(f"REVOKE ALL ON {table} FROM hearth_tenant" for table in (*WRITTEN, "task_logs")),
    "DROP FUNCTION common_words()",
    "DROP FUNCTION first_turn(text)",
    "DROP FUNCTION owner_of_task(uuid, jsonb)",
    "DROP FUNCTION collection_named(text)",
    "DROP FUNCTION acting_owner()",
    """
    DO $$
    BEGIN
        EXECUTE 'REVOKE USAGE ON SCHEMA ' || quote_ident(current_schema()) || ' FROM hearth_tenant';
    END
    $$
    """,
    # The revision before knows one of a name: the first keeps it.
    """
    DELETE FROM log_subscriptions AS later
    USING log_subscriptions AS earlier
    WHERE earlier.name = later.name AND earlier.id < later.id
    """,
    """
    UPDATE collections AS later
    SET name = left(later.name, 40) || '-' || later.id::text
    FROM collections AS earlier
    WHERE earlier.name = later.name AND earlier.id < later.id
    """,
    """
    UPDATE tasks AS later
    SET idempotency_key = NULL
    FROM tasks AS earlier
    WHERE earlier.idempotency_key = later.idempotency_key AND earlier.id < later.id
    """,
    # The indexes and constraints on a column go with it.
    *(f"ALTER TABLE {table} DROP COLUMN owner" for table in (*OWNED, "task_logs")),
    "CREATE UNIQUE INDEX tasks_idempotency_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL",
    "ALTER TABLE collections ADD CONSTRAINT collections_name_key UNIQUE (name)",
    "ALTER TABLE log_subscriptions ADD CONSTRAINT log_subscriptions_name_key UNIQUE (name)",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
