-- name: put_chunks
-- $1 task_id, $2 attempt, $3 document_id, then arrays with a chunk in each place: $4 number, $5 text, $6 headings,
-- $7 page, $8 start, $9 end. No row where the document is not there or the attempt is outdated.
WITH current AS (
    SELECT documents.id
    FROM documents, tasks
    WHERE documents.id = $3 AND tasks.id = $1 AND tasks.attempt = $2 AND tasks.status = 'running'
    FOR SHARE
), stored AS (
    INSERT INTO chunks (document_id, number, text, headings, page, span_start, span_end)
    SELECT current.id, given.*
    FROM current, unnest($4::integer[], $5::text[], $6::jsonb[], $7::integer[], $8::bigint[], $9::bigint[]) AS given
    ON CONFLICT (document_id, number) DO NOTHING
)
SELECT TRUE FROM current;

-- name: list_unembedded_of_document
-- $1 document_id, $2 model, $3 limit, $4 id of the chunk after which to look or NULL. By number; none where that chunk is
-- gone.
SELECT chunks.id, chunks.text, chunks.headings, documents.name AS document_name
FROM chunks
JOIN documents ON documents.id = chunks.document_id
WHERE chunks.document_id = $1
  AND ($4::bigint IS NULL OR chunks.number > (SELECT number FROM chunks WHERE id = $4))
  AND NOT EXISTS (SELECT FROM chunk_vectors WHERE chunk_id = chunks.id AND model = $2)
ORDER BY chunks.number
LIMIT $3;

-- name: count_unembedded_of_document
-- $1 document_id, $2 model.
SELECT count(*) AS total, count(*) FILTER (WHERE chunk_vectors.chunk_id IS NULL) AS missing
FROM chunks
LEFT JOIN chunk_vectors ON chunk_vectors.chunk_id = chunks.id AND chunk_vectors.model = $2
WHERE chunks.document_id = $1;

-- name: list_unembedded_of_collection
-- $1 collection_id, $2 model, $3 limit, $4 id of the chunk after which to look or NULL. By document and number; none where
-- that chunk is gone. The inner limit has it go from document to document: along the chunks, or with all of them sorted, it
-- would read those of other collections, or of all documents to come.
SELECT found.id, found.text, found.headings, documents.name AS document_name
FROM documents
CROSS JOIN LATERAL (
    SELECT *
    FROM chunks
    WHERE document_id = documents.id
      AND ($4::bigint IS NULL OR (document_id, number) > (SELECT document_id, number FROM chunks WHERE id = $4))
      AND NOT EXISTS (SELECT FROM chunk_vectors WHERE chunk_id = chunks.id AND model = $2)
    ORDER BY number
    LIMIT $3
) AS found
WHERE documents.collection_id = $1
  AND documents.ready_at IS NOT NULL
  AND ($4::bigint IS NULL OR documents.id >= (SELECT document_id FROM chunks WHERE id = $4))
ORDER BY documents.id, found.number
LIMIT $3;

-- name: count_unembedded_of_collection
-- $1 collection_id, $2 model.
SELECT count(*) AS total, count(*) FILTER (WHERE chunk_vectors.chunk_id IS NULL) AS missing
FROM documents
JOIN chunks ON chunks.document_id = documents.id
LEFT JOIN chunk_vectors ON chunk_vectors.chunk_id = chunks.id AND chunk_vectors.model = $2
WHERE documents.collection_id = $1 AND documents.ready_at IS NOT NULL;

-- name: find_dimensions
-- $1 model.
SELECT vector_dims(vector) AS dimensions FROM chunk_vectors WHERE model = $1 LIMIT 1;

-- name: put_vectors
-- $1 task_id, $2 attempt, $3 model, then arrays with a vector in each place: $4 chunk_id, $5 vector as text.
-- A chunk that was deleted meanwhile is passed over. No row where the attempt is outdated.
WITH current AS (
    SELECT id FROM tasks WHERE id = $1 AND attempt = $2 AND status = 'running' FOR SHARE
), stored AS (
    INSERT INTO chunk_vectors (chunk_id, model, vector)
    SELECT chunks.id, $3, given.vector::vector
    FROM current, unnest($4::bigint[], $5::text[]) AS given (chunk_id, vector)
    JOIN chunks ON chunks.id = given.chunk_id
    ON CONFLICT (model, chunk_id) DO NOTHING
)
SELECT TRUE FROM current;
