-- name: lock_index
-- $1 name. Whether nobody else builds it now; the lock ends with the connection.
SELECT pg_try_advisory_lock(hashtext('vector index'), hashtext($1)) AS is_ours;

-- name: find_index
-- $1 name. No row where there is none. One that is not valid was left by a build that was cut off.
SELECT pg_index.indisvalid AS is_valid FROM pg_index WHERE pg_index.indexrelid = to_regclass(quote_ident($1));

-- name: drop_statement
-- $1 name.
SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %I', $1::text) AS statement;

-- name: create_statement
-- $1 name, $2 table, $3 type of the vectors, $4 operator class, $5 model.
SELECT format(
    'CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON %I USING hnsw ((vector::%s) %I) WHERE model = %L',
    $1::text, $2::text, $3::text, $4::text, $5::text
) AS statement;
