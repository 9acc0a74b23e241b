-- The newest generation of each resource.
SELECT DISTINCT ON (resource)
    resource, kind, namespace, name, seen_at, content_hash, body IS NULL AS is_deleted, revision, generation, origin
FROM mesh_resource
ORDER BY resource, seen_at DESC
