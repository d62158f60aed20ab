-- name: tune_scan
-- $1 how many results are wanted. Until the transaction ends, a scan of an HNSW index goes on until it has found that
-- many that pass the filter: https://github.com/pgvector/pgvector#iterative-index-scans. The more vectors there are, the
-- broader it is, up to 200 among a million: with 40 it finds 0.99 of ten there are among 100,000, and 0.74 among a million
-- (benchmarks/large.py).
SELECT
    set_config('hnsw.iterative_scan', 'strict_order', true),
    set_config('hnsw.ef_search', least(greatest($1, least(vectors / 5000, 200), 40), 1000)::integer::text, true),
    set_config('hnsw.max_scan_tuples', '200000', true)
FROM (SELECT reltuples AS vectors FROM pg_class WHERE oid = 'chunk_vectors'::regclass) AS counted;

-- name: has_few_chunks
-- $1 ids of collections, $2 what the metadata contains, $3 how many chunks are few. It looks at no more documents than
-- have so many.
SELECT NOT EXISTS (
    SELECT
    FROM (
        SELECT sum(chunk_count) OVER (ROWS UNBOUNDED PRECEDING) AS so_far
        FROM documents
        WHERE collection_id = ANY ($1::uuid[]) AND ready_at IS NOT NULL AND metadata @> $2
    ) AS searched
    WHERE so_far > $3
) AS has_few;

-- name: nearest_chunks
-- $1 vector as text, $2 model, $3 ids of collections, $4 what the metadata contains, $5 limit. {type} is the vector's
-- type, which the index has too.
SELECT chunks.id, 1 - (chunk_vectors.vector::{type} <=> $1::text::{type}) AS score
FROM chunk_vectors
JOIN chunks ON chunks.id = chunk_vectors.chunk_id
JOIN documents ON documents.id = chunks.document_id
WHERE chunk_vectors.model = $2
  AND documents.collection_id = ANY ($3::uuid[])
  AND documents.ready_at IS NOT NULL
  AND documents.metadata @> $4
ORDER BY chunk_vectors.vector::{type} <=> $1::text::{type}
LIMIT $5;

-- name: nearest_chunks_exactly
-- As nearest_chunks, of all that the filter lets pass: the sum keeps the planner from the index.
SELECT chunks.id, 1 - (chunk_vectors.vector <=> $1::text::vector) AS score
FROM documents
JOIN chunks ON chunks.document_id = documents.id
JOIN chunk_vectors ON chunk_vectors.chunk_id = chunks.id
WHERE chunk_vectors.model = $2
  AND documents.collection_id = ANY ($3::uuid[])
  AND documents.ready_at IS NOT NULL
  AND documents.metadata @> $4
ORDER BY (chunk_vectors.vector <=> $1::text::vector) + 0
LIMIT $5;

-- name: matching_chunks
-- $1 the query, $2 ids of collections, $3 what the metadata contains, $4 limit, $5 a share of the chunks. Any of the
-- query's words is enough: the rank is higher for more of them, and for those that stand close together or in headings.
-- Words that more chunks have than that share, by the statistics of ANALYZE, say little and take long: they count only
-- where the query has none but such.
WITH known AS (
    SELECT lexeme, frequency FROM common_words()
), asked AS (
    SELECT lexeme, coalesce(known.frequency, 0) AS frequency
    FROM unnest(to_tsvector('english', $1)) LEFT JOIN known USING (lexeme)
), wanted AS (
    SELECT
        string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery AS words
    FROM asked
    WHERE frequency <= greatest($5::real, (SELECT min(frequency) FROM asked))
)
SELECT chunks.id, ts_rank_cd(chunks.words, (SELECT words FROM wanted), 1) AS score
FROM chunks
JOIN documents ON documents.id = chunks.document_id
WHERE chunks.words @@ (SELECT words FROM wanted)
  AND documents.collection_id = ANY ($2::uuid[])
  AND documents.ready_at IS NOT NULL
  AND documents.metadata @> $3
ORDER BY score DESC, chunks.id
LIMIT $4;

-- name: found_chunks
-- $1 ids.
SELECT
    chunks.id, chunks.number, chunks.text, chunks.headings, chunks.page, chunks.span_start, chunks.span_end,
    documents.id AS document_id, documents.name AS document_name, documents.metadata, collections.name AS collection
FROM chunks
JOIN documents ON documents.id = chunks.document_id
JOIN collections ON collections.id = documents.collection_id
WHERE chunks.id = ANY ($1::bigint[]);

-- name: find_dimensions
-- $1 model.
SELECT vector_dims(vector) AS dimensions FROM chunk_vectors WHERE model = $1 LIMIT 1;
