-- $1, $2 start range. The newest batches of each of 24 slices of it, so that neither a busy hour nor a rare service is lost.
SELECT DISTINCT s COLLATE "C"
FROM generate_series(0, 23) AS slice
CROSS JOIN LATERAL (
    SELECT services FROM span_batch
    WHERE last_at >= $1::timestamptz + ($2::timestamptz - $1::timestamptz) / 24 * slice
      AND last_at <= $1::timestamptz + ($2::timestamptz - $1::timestamptz) / 24 * (slice + 1)
    ORDER BY last_at DESC
    LIMIT 200
) batch, unnest(batch.services) AS s
ORDER BY 1
