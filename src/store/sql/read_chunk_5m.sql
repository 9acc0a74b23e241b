SELECT c.label_set_id, c.from_at, c.to_at, c.sample_count, c.bytes
FROM unnest($1::bigint[], $2::timestamptz[]) AS k (label_set_id, from_at)
JOIN chunk_5m c USING (label_set_id, from_at)
