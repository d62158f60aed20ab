-- name: lock_subject
-- $1 agent_id, $2 scope, $3 subject. Who would change this subject's facts waits until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'memories', $1::text, $2::text, $3::text), 0));

-- name: find_owner
-- $1 agent_id, $2 id of the session or NULL. Whether they are there; a session is its agent's alone.
SELECT
    EXISTS (SELECT FROM agents WHERE id = $1) AS has_agent,
    $2::uuid IS NULL OR EXISTS (SELECT FROM sessions WHERE id = $2 AND agent_id = $1) AS has_session;

-- name: find_known
-- $1 agent_id, $2 scope, $3 subject, $4 content_hash.
SELECT *
FROM memories
WHERE agent_id = $1 AND scope = $2 AND subject = $3 AND content_hash = $4 AND superseded_at IS NULL;

-- name: find_nearest
-- $1 agent_id, $2 scope, $3 subject, $4 model, $5 vector as text. Exact: a subject has a bounded number of facts, and
-- one that an index missed would be kept twice.
SELECT memories.*, 1 - (embeddings.vector <=> $5::text::vector) AS similarity
FROM memories
JOIN embeddings ON embeddings.memory_id = memories.id AND embeddings.model = $4
WHERE agent_id = $1 AND scope = $2 AND subject = $3 AND superseded_at IS NULL
ORDER BY (embeddings.vector <=> $5::text::vector) + 0
LIMIT 5;

-- name: tell_again
-- $1 id, $2 importance.
UPDATE memories
SET updated_at = now(), importance = greatest(importance, $2)
WHERE id = $1
RETURNING *;

-- name: insert_memory
-- $1 id, $2 agent_id, $3 scope, $4 subject, $5 id of the session or NULL, $6 content, $7 content_hash, $8 topic or NULL,
-- $9 importance, $10 source, $11 task_id or NULL, $12 id of the embedding, $13 model, $14 vector as text. The task may
-- be gone.
WITH memory AS (
    INSERT INTO memories (
        id, agent_id, scope, subject, session_id, content, content_hash, topic, importance, source, task_id
    )
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, (SELECT id FROM tasks WHERE id = $11)
    RETURNING *
), embedding AS (
    INSERT INTO embeddings (id, memory_id, vector, content_hash, model)
    SELECT $12, id, $14::text::vector, content_hash, $13 FROM memory
)
SELECT * FROM memory;

-- name: supersede
-- $1 id of the newer fact, which has the subject and the topic.
UPDATE memories AS older
SET superseded_by = newer.id, superseded_at = now()
FROM memories AS newer
WHERE newer.id = $1
  AND older.id <> newer.id
  AND older.superseded_at IS NULL
  AND (older.agent_id, older.scope, older.subject, older.topic)
      = (newer.agent_id, newer.scope, newer.subject, newer.topic)
RETURNING older.id;

-- name: forget_least
-- $1 agent_id, $2 scope, $3 subject, $4 how many may stay, $5 one that stays. History goes first, then what is neither
-- important nor recent.
DELETE FROM memories
WHERE id IN (
    SELECT id
    FROM memories
    WHERE agent_id = $1 AND scope = $2 AND subject = $3 AND id <> $5
    ORDER BY
        superseded_at IS NOT NULL,
        superseded_at DESC,
        importance + power(0.5, extract(epoch FROM now() - greatest(updated_at, last_recalled_at)) / 2592000.0) DESC,
        id DESC
    OFFSET $4::bigint - 1
);

-- name: get_memory
-- $1 id.
SELECT * FROM memories WHERE id = $1;

-- name: list_memories
-- $1 limit, $2 after this id or NULL, $3 agent_id, $4 scope or NULL, $5 subject or NULL, $6 a pattern for LIKE or NULL,
-- $7 with those that are superseded.
SELECT *
FROM memories
WHERE agent_id = $3
  AND ($2::uuid IS NULL OR id < $2)
  AND ($4::text IS NULL OR scope = $4)
  AND ($5::text IS NULL OR subject = $5)
  AND ($6::text IS NULL OR content ILIKE $6)
  AND ($7 OR superseded_at IS NULL)
ORDER BY id DESC
LIMIT $1;

-- name: update_memory
-- $1 id, $2 content or NULL, $3 content_hash, $4 topic, NULL to keep it or empty for none, $5 importance or NULL. A new
-- content leaves no vector of the old one.
WITH stale AS (
    DELETE FROM embeddings WHERE memory_id = $1 AND $2::text IS NOT NULL AND content_hash <> $3
)
UPDATE memories
SET content = coalesce($2, content),
    content_hash = CASE WHEN $2::text IS NULL THEN content_hash ELSE $3 END,
    topic = CASE WHEN $4::text IS NULL THEN topic ELSE nullif($4, '') END,
    importance = coalesce($5, importance),
    updated_at = now()
WHERE id = $1
RETURNING *;

-- name: put_embedding
-- $1 id of the embedding, $2 id of the fact, $3 model, $4 vector as text. No row where the fact is not there.
INSERT INTO embeddings (id, memory_id, vector, content_hash, model)
SELECT $1, id, $4::text::vector, content_hash, $3 FROM memories WHERE id = $2
ON CONFLICT (memory_id, model) WHERE memory_id IS NOT NULL
DO UPDATE SET vector = excluded.vector, content_hash = excluded.content_hash
RETURNING TRUE;

-- name: delete_memory
-- $1 id.
DELETE FROM memories WHERE id = $1 RETURNING id;

-- name: forget_subject
-- $1 agent_id, $2 scope, $3 subject.
WITH forgotten AS (
    DELETE FROM memories WHERE agent_id = $1 AND scope = $2 AND subject = $3 RETURNING id
)
SELECT count(*) AS count FROM forgotten;

-- name: find_dimensions
-- $1 model.
SELECT vector_dims(vector) AS dimensions FROM embeddings WHERE model = $1 AND memory_id IS NOT NULL LIMIT 1;

-- name: tune_scan
-- $1 how many results are wanted. Until the transaction ends, a scan of an HNSW index goes on until it has found that
-- many that pass the filter: https://github.com/pgvector/pgvector#iterative-index-scans.
SELECT
    set_config('hnsw.iterative_scan', 'strict_order', true),
    set_config('hnsw.ef_search', least(greatest($1, 40), 1000)::text, true),
    set_config('hnsw.max_scan_tuples', '200000', true);

-- name: scan_exactly
-- Until the transaction ends, nothing is ordered by an index: a scan of an HNSW index may not reach all that it holds.
SELECT set_config('enable_indexscan', 'off', true);

-- name: count_recall
-- $1 ids of facts that a run is told of.
UPDATE memories SET last_recalled_at = now(), recall_count = recall_count + 1 WHERE id = ANY ($1::uuid[]);

-- name: recall
-- $1 vector as text, $2 model, $3 agent_id, $4 scopes and $5 their subjects, $6 how many are compared, $7 limit. {type} is
-- the vector's type, which the index has too.
-- The score is that of https://arxiv.org/abs/2304.03442, section 4.1, with weights of its own: similarities are taken
-- relative to the best, since those of some models all lie close together. Recency halves every 30 days.
WITH nearest AS MATERIALIZED (
    SELECT memories.*, 1 - (embeddings.vector::{type} <=> $1::text::{type}) AS similarity
    FROM embeddings
    JOIN memories ON memories.id = embeddings.memory_id
    WHERE embeddings.model = $2
      AND memories.superseded_at IS NULL
      AND memories.agent_id = $3
      AND (memories.scope, memories.subject) IN (SELECT * FROM unnest($4::text[], $5::text[]))
    ORDER BY embeddings.vector::{type} <=> $1::text::{type}
    LIMIT $6
), measured AS (
    SELECT
        *,
        1 - (max(similarity) OVER () - similarity)
            / greatest(max(similarity) OVER () - min(similarity) OVER (), 0.1) AS relevance,
        power(0.5, extract(epoch FROM now() - greatest(updated_at, last_recalled_at)) / 2592000.0)::double precision
            AS recency
    FROM nearest
), best AS (
    SELECT *, 0.6 * relevance + 0.2 * recency + 0.2 * importance AS score
    FROM measured
    ORDER BY score DESC, id DESC
    LIMIT $7
)
SELECT * FROM best ORDER BY score DESC, id DESC;

-- name: list_unembedded
-- $1 agent_id, $2 scopes and $3 their subjects, $4 model, $5 limit. The newest first.
SELECT *
FROM memories
WHERE agent_id = $1
  AND superseded_at IS NULL
  AND (scope, subject) IN (SELECT * FROM unnest($2::text[], $3::text[]))
  AND NOT EXISTS (SELECT FROM embeddings WHERE memory_id = memories.id AND model = $4)
ORDER BY id DESC
LIMIT $5;
