SELECT c.label_set_id, c.from_at, c.to_at, c.sample_count, c.bytes
FROM unnest($1::bigint[], $2::timestamptz[]) AS k (label_set_id, window_at)
JOIN chunk_raw c ON c.label_set_id = k.label_set_id
    AND c.from_at >= k.window_at AND c.from_at < k.window_at + interval '10 seconds'
