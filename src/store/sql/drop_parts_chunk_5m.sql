DELETE FROM chunk_5m c
USING unnest($1::bigint[], $2::timestamptz[]) AS k (label_set_id, window_at)
WHERE c.label_set_id = k.label_set_id
  AND c.from_at > k.window_at AND c.from_at < k.window_at + interval '10 seconds'
