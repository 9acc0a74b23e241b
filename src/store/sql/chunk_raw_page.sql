SELECT label_set_id, from_at, to_at, sample_count, bytes
FROM chunk_raw
WHERE from_at >= $1 AND from_at < $2 AND label_set_id = ANY(ARRAY(
    SELECT DISTINCT label_set_id FROM chunk_raw
    WHERE from_at >= $1 AND from_at < $2 AND label_set_id >= $3
    ORDER BY label_set_id LIMIT $4))
ORDER BY label_set_id, from_at
