-- Notes that a replica is there, and forgets those that are long gone.
WITH gone AS (DELETE FROM replica WHERE seen_at < clock_timestamp() - interval '1 h' AND replica_id <> $1)
INSERT INTO replica (replica_id, name, host, web_port, grpc_port, http_port, is_https, seen_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())
ON CONFLICT (replica_id) DO UPDATE
SET name = excluded.name, host = excluded.host, web_port = excluded.web_port, grpc_port = excluded.grpc_port,
    http_port = excluded.http_port, is_https = excluded.is_https, seen_at = excluded.seen_at
