-- $1 ids of traces.
SELECT uuid_send(c.trace_id) AS trace_id, t.*,
       ARRAY(SELECT DISTINCT s COLLATE "C" FROM trace_part p, unnest(p.services) AS s WHERE p.trace_id = c.trace_id ORDER BY 1)
           AS services
FROM unnest($1::text[]::uuid[]) AS c(trace_id)
CROSS JOIN LATERAL (
    SELECT min(start_ns) AS start_ns, max(end_ns) AS end_ns,
           sum(span_count)::bigint AS span_count, sum(error_count)::bigint AS error_count,
           max(root_service) AS root_service, max(root_name) AS root_name
    FROM trace_part p
    WHERE p.trace_id = c.trace_id
) t
WHERE t.start_ns IS NOT NULL
