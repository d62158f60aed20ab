"""Collections of documents, their chunks and the chunks' vectors.

Revision: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"

UPGRADE = (
    # next_model is set while the chunks are embedded with another model than the one that is searched.
    """
    CREATE TABLE collections (
        id uuid PRIMARY KEY,
        name text NOT NULL UNIQUE,
        description text NOT NULL,
        embedding_model text NOT NULL,
        next_embedding_model text,
        chunk_tokens integer NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Before task_id is set the parts are coming. Its state beyond that is its task's, until ready_at is set.
    """
    CREATE TABLE documents (
        id uuid PRIMARY KEY,
        collection_id uuid NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
        name text NOT NULL,
        media_type text NOT NULL,
        size_bytes bigint NOT NULL,
        content_hash text NOT NULL,
        metadata jsonb NOT NULL,
        task_id uuid REFERENCES tasks (id),
        page_count integer,
        character_count bigint NOT NULL DEFAULT 0,
        chunk_count integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        ready_at timestamptz,
        UNIQUE (collection_id, content_hash),
        CHECK (ready_at IS NULL OR task_id IS NOT NULL)
    )
    """,
    "CREATE INDEX documents_collection ON documents (collection_id, id)",
    "CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops)",
    "CREATE INDEX documents_uploading ON documents (created_at) WHERE task_id IS NULL",
    """
    CREATE TABLE document_parts (
        document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        number integer NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (document_id, number)
    )
    """,
    # Files are mostly compressed already.
    "ALTER TABLE document_parts ALTER COLUMN data SET STORAGE EXTERNAL",
    """
    CREATE TABLE document_texts (
        document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        number integer NOT NULL,
        text text NOT NULL,
        PRIMARY KEY (document_id, number)
    )
    """,
    # The text's stems, those of the headings weighing more. Other languages than English keep their words as they are,
    # but for endings that look English, alike in chunks and in queries.
    """
    CREATE TABLE chunks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        number integer NOT NULL,
        text text NOT NULL,
        headings jsonb NOT NULL,
        page integer,
        span_start bigint NOT NULL,
        span_end bigint NOT NULL,
        words tsvector NOT NULL GENERATED ALWAYS AS (
            setweight(to_tsvector('english', headings), 'A') || setweight(to_tsvector('english', text), 'B')
        ) STORED,
        UNIQUE (document_id, number)
    )
    """,
    "CREATE INDEX chunks_words ON chunks USING gin (words)",
    # Each embedding model in use gets an index of its own: storage_service.vector_indexes.
    """
    CREATE TABLE chunk_vectors (
        chunk_id bigint NOT NULL REFERENCES chunks (id) ON DELETE CASCADE,
        model text NOT NULL,
        vector vector NOT NULL,
        PRIMARY KEY (model, chunk_id)
    )
    """,
    "CREATE INDEX chunk_vectors_chunk_id ON chunk_vectors (chunk_id)",
)

DOWNGRADE = (
    "DROP TABLE chunk_vectors",
    "DROP TABLE chunks",
    "DROP TABLE document_texts",
    "DROP TABLE document_parts",
    "DROP TABLE documents",
    "DROP TABLE collections",
)


def upgrade() -> None:
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWNGRADE:
        op.execute(statement)
