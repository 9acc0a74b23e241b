SELECT resource, seen_at, kind, namespace, name, content_hash, body, revision, generation, origin, action, writer, fields,
       effects
FROM mesh_resource
WHERE resource = $1
ORDER BY seen_at DESC
LIMIT $2
