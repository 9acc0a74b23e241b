-- $1, $2 start range; $3 service, $4 operation (arrays of one, or null); $5 only errors; $6 attribute hashes;
-- $7, $8 trace duration in ns; $9 traces looked at; $10 traces returned.
WITH candidate AS (
    SELECT trace_id, max(start_at) AS latest
    FROM trace_part
    WHERE start_at BETWEEN $1 AND $2
      AND ($3::text[] IS NULL OR services @> $3)
      AND ($4::text[] IS NULL OR operations @> $4)
      AND (NOT $5 OR error_count > 0)
      AND attribute_hashes @> $6
      AND end_ns - start_ns <= $8
    GROUP BY trace_id
    ORDER BY latest DESC
    LIMIT $9
)
SELECT uuid_send(c.trace_id) AS trace_id, t.*,
       ARRAY(SELECT DISTINCT s COLLATE "C" FROM trace_part p, unnest(p.services) AS s WHERE p.trace_id = c.trace_id ORDER BY 1)
           AS services
FROM candidate c
CROSS JOIN LATERAL (
    SELECT min(start_ns) AS start_ns, max(end_ns) AS end_ns,
           sum(span_count)::bigint AS span_count, sum(error_count)::bigint AS error_count,
           max(root_service) AS root_service, max(root_name) AS root_name
    FROM trace_part p
    WHERE p.trace_id = c.trace_id
) t
WHERE t.end_ns - t.start_ns BETWEEN $7 AND $8
ORDER BY t.start_ns DESC
LIMIT $10
