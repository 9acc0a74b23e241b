-- Bodies are left out: a timeline does not show them.
SELECT resource, seen_at, kind, namespace, name, content_hash, NULL::text AS body, revision, generation, origin, action,
       writer, fields, effects
FROM mesh_resource
WHERE action <> 'first' AND seen_at >= $1 AND seen_at <= $2
  AND ($3::text IS NULL OR namespace = $3)
  AND ($4::text IS NULL OR kind = $4)
  AND ($5::text IS NULL OR name = $5)
ORDER BY seen_at DESC, resource
LIMIT $6
