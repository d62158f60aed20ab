-- name: forget_uploads
-- $1 how long ago an upload that nobody finished began at least.
DELETE FROM documents WHERE task_id IS NULL AND created_at < now() - $1::interval;

-- name: begin_document
-- $1 id, $2 name of the collection, $3 name, $4 media_type, $5 size_bytes, $6 content_hash, $7 metadata.
-- No row where the collection is not there, or has a document with this content.
INSERT INTO documents (id, collection_id, name, media_type, size_bytes, content_hash, metadata)
SELECT $1, collections.id, $3, $4, $5, $6, $7 FROM collections WHERE collections.id = collection_named($2)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: find_document
-- $1 name of the collection, $2 content_hash.
SELECT documents.*, collections.name AS collection, tasks.status AS task_status, tasks.error_code, tasks.error_message
FROM documents
JOIN collections ON collections.id = documents.collection_id
LEFT JOIN tasks ON tasks.id = documents.task_id
WHERE collections.id = collection_named($1) AND documents.content_hash = $2;

-- name: get_document
-- $1 id.
SELECT documents.*, collections.name AS collection, tasks.status AS task_status, tasks.error_code, tasks.error_message
FROM documents
JOIN collections ON collections.id = documents.collection_id
LEFT JOIN tasks ON tasks.id = documents.task_id
WHERE documents.id = $1;

-- name: list_documents
-- $1 limit, $2 after this id or NULL, $3 name of a collection or NULL, $4 bytes.
-- `found` is how many rows there are within the limit; those whose predecessors fill the bytes are left out.
SELECT *
FROM (
    SELECT
        page.*,
        count(*) OVER () AS found,
        sum(octet_length(metadata::text) + coalesce(octet_length(error_message), 0)) OVER (
            ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before
    FROM (
        SELECT
            documents.*, collections.name AS collection, tasks.status AS task_status, tasks.error_code,
            tasks.error_message
        FROM documents
        JOIN collections ON collections.id = documents.collection_id
        LEFT JOIN tasks ON tasks.id = documents.task_id
        WHERE ($2::uuid IS NULL OR documents.id < $2)
          AND ($3::text IS NULL OR collections.id = collection_named($3))
        ORDER BY documents.id DESC
        LIMIT $1
    ) AS page
) AS measured
WHERE coalesce(bytes_before, 0) < $4::bigint
ORDER BY id DESC;

-- name: delete_document
-- $1 id.
DELETE FROM documents WHERE id = $1 RETURNING id;

-- name: put_part
-- $1 document_id, $2 number, $3 data. No row where the document is not there or was accepted.
WITH uploading AS (
    SELECT id FROM documents WHERE id = $1 AND task_id IS NULL FOR SHARE
)
INSERT INTO document_parts (document_id, number, data)
SELECT uploading.id, $2, $3 FROM uploading
ON CONFLICT (document_id, number) DO UPDATE SET data = excluded.data
RETURNING TRUE;

-- name: get_part
-- $1 document_id, $2 number.
SELECT data FROM document_parts WHERE document_id = $1 AND number = $2;

-- name: measure_parts
-- $1 document_id. No row where it is not there. `has_gap` is that a part is missing.
SELECT
    size_bytes,
    task_id,
    (SELECT coalesce(sum(octet_length(data)), 0) FROM document_parts WHERE document_id = $1) AS bytes,
    (SELECT count(*) <> coalesce(max(number) + 1, 0) FROM document_parts WHERE document_id = $1) AS has_gap
FROM documents
WHERE id = $1;

-- name: set_task
-- $1 id, $2 task_id.
UPDATE documents SET task_id = $2 WHERE id = $1 AND task_id IS NULL RETURNING id;

-- name: put_text
-- $1 task_id, $2 attempt, $3 document_id, $4 number, $5 text.
-- The lock on the task holds until this is committed, as in put_checkpoint.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
)
INSERT INTO document_texts (document_id, number, text)
SELECT documents.id, $4, $5 FROM documents, current WHERE documents.id = $3
ON CONFLICT (document_id, number) DO UPDATE SET text = excluded.text
RETURNING TRUE;

-- name: get_text
-- $1 document_id, $2 number.
SELECT text FROM document_texts WHERE document_id = $1 AND number = $2;

-- name: record_text
-- $1 task_id, $2 attempt, $3 document_id, $4 page_count or NULL, $5 character_count, $6 chunk_count.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
)
UPDATE documents
SET page_count = $4, character_count = $5, chunk_count = $6
FROM current
WHERE documents.id = $3
RETURNING TRUE;

-- name: lock_models
-- $1 id of the document. Its collection's models, which do not change before the transaction ends.
SELECT collections.embedding_model, collections.next_embedding_model
FROM documents
JOIN collections ON collections.id = documents.collection_id
WHERE documents.id = $1
FOR SHARE OF collections;

-- name: lacks_vectors
-- $1 id of the document, $2 model.
SELECT EXISTS (
    SELECT
    FROM chunks
    WHERE document_id = $1 AND NOT EXISTS (SELECT FROM chunk_vectors WHERE chunk_id = chunks.id AND model = $2)
) AS is_missing;

-- name: publish
-- $1 task_id, $2 attempt, $3 document_id.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
)
UPDATE documents SET ready_at = coalesce(ready_at, now()) FROM current WHERE documents.id = $3 RETURNING TRUE;
