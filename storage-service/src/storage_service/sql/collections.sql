-- name: insert_collection
-- $1 id, $2 name, $3 description, $4 embedding_model, $5 chunk_tokens. No row where the id or the name is known.
INSERT INTO collections (id, name, description, embedding_model, chunk_tokens)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING *, 0 AS document_count, 0 AS chunk_count;

-- name: get_collection
-- $1 name. Counts only what can be found.
SELECT
    collections.*, count(documents.id) AS document_count, coalesce(sum(documents.chunk_count), 0)::bigint AS chunk_count
FROM collections
LEFT JOIN documents ON documents.collection_id = collections.id AND documents.ready_at IS NOT NULL
WHERE collections.id = collection_named($1)
GROUP BY collections.id;

-- name: list_collections
-- $1 limit, $2 after this name or NULL.
SELECT page.*, counted.document_count, counted.chunk_count
FROM (
    SELECT * FROM collections WHERE $2::text IS NULL OR name COLLATE "C" > $2 ORDER BY name COLLATE "C" LIMIT $1
) AS page
CROSS JOIN LATERAL (
    SELECT count(*) AS document_count, coalesce(sum(chunk_count), 0)::bigint AS chunk_count
    FROM documents
    WHERE collection_id = page.id AND ready_at IS NOT NULL
) AS counted
ORDER BY page.name COLLATE "C";

-- name: update_collection
-- $1 name, $2 description, $3 embedding_model. The model that is searched already needs no next one. What changes
-- nothing leaves updated_at alone.
UPDATE collections
SET description = $2,
    next_embedding_model = nullif($3, embedding_model),
    updated_at = CASE
        WHEN (description, next_embedding_model) IS DISTINCT FROM ($2, nullif($3, embedding_model)) THEN now()
        ELSE updated_at
    END
WHERE id = collection_named($1)
RETURNING id;

-- name: delete_collection
-- $1 name.
DELETE FROM collections WHERE id = collection_named($1) RETURNING id;

-- name: lock_next_model
-- $1 id of the collection, $2 model. Documents that are published meanwhile wait, and are seen by what comes next.
SELECT embedding_model = $2 AS is_switched, next_embedding_model = $2 AS is_next FROM collections WHERE id = $1 FOR UPDATE;

-- name: find_unembedded
-- $1 id of the collection, $2 model. Whether a chunk that can be found lacks a vector of it.
SELECT EXISTS (
    SELECT
    FROM documents
    JOIN chunks ON chunks.document_id = documents.id
    WHERE documents.collection_id = $1
      AND documents.ready_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM chunk_vectors WHERE chunk_id = chunks.id AND model = $2)
) AS is_missing;

-- name: switch_model
-- $1 id of the collection.
UPDATE collections
SET embedding_model = next_embedding_model, next_embedding_model = NULL, updated_at = now()
WHERE id = $1
RETURNING id;

-- name: drop_vectors
-- $1 id of the collection, $2 limit. Vectors of models that it is not searched by, so many at a time.
WITH stale AS (
    SELECT chunk_vectors.chunk_id, chunk_vectors.model
    FROM collections
    JOIN documents ON documents.collection_id = collections.id
    JOIN chunks ON chunks.document_id = documents.id
    JOIN chunk_vectors ON chunk_vectors.chunk_id = chunks.id
    WHERE collections.id = $1
      AND chunk_vectors.model <> collections.embedding_model
      AND chunk_vectors.model IS DISTINCT FROM collections.next_embedding_model
    LIMIT $2
), gone AS (
    DELETE FROM chunk_vectors USING stale
    WHERE chunk_vectors.chunk_id = stale.chunk_id AND chunk_vectors.model = stale.model
    RETURNING TRUE
)
SELECT count(*) AS dropped FROM gone;
