-- The newest generation of each resource stays whatever its age, unless it says that the resource is gone.
DELETE FROM mesh_resource old
WHERE seen_at < $1
  AND (body IS NULL OR EXISTS (SELECT FROM mesh_resource newer
                               WHERE newer.resource = old.resource AND newer.seen_at > old.seen_at))
