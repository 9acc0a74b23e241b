INSERT INTO mesh_resource
    (resource, seen_at, kind, namespace, name, content_hash, body, revision, generation, origin, action, writer, fields)
SELECT * FROM unnest(
    $1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[],
    $10::text[], $11::text[], $12::text[], $13::jsonb[])
ON CONFLICT (resource, seen_at) DO UPDATE SET
    content_hash = excluded.content_hash, body = excluded.body, revision = excluded.revision,
    generation = excluded.generation, origin = excluded.origin, action = excluded.action, writer = excluded.writer,
    fields = excluded.fields
