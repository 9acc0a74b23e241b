-- $1 keys of traces, $2 their ids, $3 most places.
SELECT w.id AS trace_id, b.batch_id, b.last_at, b.span_counts[at.number] AS span_count
FROM (
    -- A concatenation is read from its table once, not once for each trace.
    SELECT batch_id, last_at, trace_ids || ''::bytea AS trace_ids, span_counts || '{}' AS span_counts
    FROM span_batch
    WHERE keys && $1
    ORDER BY last_at, batch_id
    LIMIT $3
) AS b
CROSS JOIN LATERAL generate_series(1, length(b.trace_ids) / 16) AS at(number)
JOIN unnest($2::bytea[]) AS w(id) ON w.id = substr(b.trace_ids, 16 * at.number - 15, 16)
ORDER BY b.last_at, b.batch_id
LIMIT $3
