SELECT s.label_set_id
FROM unnest($1::bigint[]) AS s (label_set_id)
WHERE EXISTS (SELECT FROM chunk_raw c
              WHERE c.label_set_id = s.label_set_id AND c.from_at BETWEEN $2 AND $4 AND c.to_at >= $3)
   OR EXISTS (SELECT FROM chunk_5m c
              WHERE c.label_set_id = s.label_set_id AND c.from_at BETWEEN $2 AND $4 AND c.to_at >= $3)
