INSERT INTO mesh_resource (resource, seen_at, kind, namespace, name, content_hash, body)
SELECT $1, $2, $3, $4, $5, $6, $7
WHERE (SELECT (content_hash, body IS NULL) FROM mesh_resource WHERE resource = $1 ORDER BY seen_at DESC LIMIT 1)
      IS DISTINCT FROM ($6::bigint, $7::text IS NULL)
ON CONFLICT (resource, seen_at) DO UPDATE SET content_hash = excluded.content_hash, body = excluded.body
