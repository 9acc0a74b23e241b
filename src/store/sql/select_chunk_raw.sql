SELECT label_set_id, from_at, to_at, sample_count, bytes
FROM chunk_raw
WHERE label_set_id = ANY($1) AND from_at BETWEEN $2 AND $4 AND to_at >= $3
