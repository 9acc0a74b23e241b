-- What SQL users may rely on: names and columns of these views and functions stay.

-- The `q`-quantile of a histogram whose buckets end at `bounds` (rising) and hold `counts` (each bucket its own count,
-- not cumulative; one more than bounds: the last is everything beyond). Interpolates inside the bucket as PromQL's
-- histogram_quantile() does. Null without observations; -Infinity and Infinity for q below 0 and above 1.
CREATE FUNCTION histogram_quantile(q double precision, bounds double precision[], counts double precision[])
RETURNS double precision
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
AS $$
DECLARE
    total double precision := 0;
    rank  double precision;
    below double precision := 0;
    lower double precision;
    last  integer := cardinality(bounds);
    value double precision;
BEGIN
    FOREACH value IN ARRAY counts LOOP
        total := total + value;
    END LOOP;
    IF total = 0 OR last = 0 THEN
        RETURN NULL;
    END IF;
    IF q = 'NaN' THEN
        RETURN 'NaN';
    ELSIF q < 0 THEN
        RETURN '-Infinity';
    ELSIF q > 1 THEN
        RETURN 'Infinity';
    END IF;
    rank := q * total;
    FOR i IN 1 .. last LOOP
        IF below + counts[i] >= rank THEN
            IF i = 1 AND bounds[1] <= 0 THEN
                RETURN bounds[1];
            END IF;
            lower := CASE WHEN i = 1 THEN 0 ELSE bounds[i - 1] END;
            IF counts[i] = 0 THEN
                RETURN lower; -- only q = 0 comes to rest in an empty bucket
            END IF;
            RETURN lower + (bounds[i] - lower) * (rank - below) / counts[i];
        END IF;
        below := below + counts[i];
    END LOOP;
    RETURN bounds[last];
END
$$;

-- Adds element by element; the longer array's rest stays as it is.
CREATE FUNCTION counts_add(a double precision[], b double precision[]) RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE
        WHEN a IS NULL OR cardinality(a) = 0 THEN b
        WHEN b IS NULL OR cardinality(b) = 0 THEN a
        ELSE (SELECT array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY i) FROM unnest(a, b) WITH ORDINALITY AS u (x, y, i))
    END
$$;

-- The sum of histograms of one layout.
CREATE AGGREGATE counts_sum(double precision[]) (
    SFUNC = counts_add, STYPE = double precision[], COMBINEFUNC = counts_add, PARALLEL = SAFE
);

-- One row for each series: its name and all its labels.
CREATE VIEW series_labels AS
SELECT s.series_id,
       m.name AS metric,
       CASE WHEN s.le IS NULL THEN l.labels ELSE l.labels || jsonb_build_object('le', s.le) END AS labels,
       s.last_day
FROM series s
JOIN metric m USING (metric_id)
JOIN label_set l USING (label_set_id);

-- One row for each edge, reporter and minute. Reports of two reporters of one edge must not be added.
--
-- Of TCP as proxies report it, requests are connections opened and errors are those closed with a response flag: such an
-- outcome says how a connection that was counted when it opened has ended, so it is not one more. Spans of a database or
-- a queue are calls with outcomes of their own, whatever carries them.
CREATE VIEW edge_report_1m AS
SELECT r.minute, r.edge_id, e.mesh, e.reporter, e.protocol,
       e.source_cluster, e.source_namespace, e.source_workload,
       e.destination_cluster, e.destination_namespace, e.destination_workload,
       e.service, e.service_namespace, e.service_host, e.security,
       o.requests, o.errors, o.injected,
       r.request_bytes, r.response_bytes, r.connections_closed,
       l.bounds_ms AS latency_bounds_ms, r.latency_counts, r.latency_sum_ms
FROM edge_rollup_1m r
JOIN edge e USING (edge_id)
LEFT JOIN latency_layout l USING (layout_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(u.count) FILTER (WHERE k.is_request), 0) AS requests,
           coalesce(sum(u.count) FILTER (WHERE k.is_error), 0) AS errors,
           coalesce(sum(u.count) FILTER (WHERE k.is_injected), 0) AS injected
    FROM unnest(r.outcome_ids, r.outcome_counts) AS u (outcome_id, count)
    JOIN LATERAL (
        SELECT NOT c.connections OR c.unflagged AS is_request,
               CASE WHEN c.connections THEN NOT c.unflagged ELSE k.is_error END AS is_error,
               k.is_injected
        FROM outcome k,
             LATERAL (SELECT e.protocol = 'tcp' AND e.reporter <> 'trace' AS connections, k.flags IN ('', '-') AS unflagged) c
        WHERE k.outcome_id = u.outcome_id
    ) k ON true
) o;

CREATE VIEW edge_report_1h AS
SELECT r.hour, r.edge_id, e.mesh, e.reporter, e.protocol,
       e.source_cluster, e.source_namespace, e.source_workload,
       e.destination_cluster, e.destination_namespace, e.destination_workload,
       e.service, e.service_namespace, e.service_host, e.security,
       o.requests, o.errors, o.injected,
       r.request_bytes, r.response_bytes, r.connections_closed,
       l.bounds_ms AS latency_bounds_ms, r.latency_counts, r.latency_sum_ms
FROM edge_rollup_1h r
JOIN edge e USING (edge_id)
LEFT JOIN latency_layout l USING (layout_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(u.count) FILTER (WHERE k.is_request), 0) AS requests,
           coalesce(sum(u.count) FILTER (WHERE k.is_error), 0) AS errors,
           coalesce(sum(u.count) FILTER (WHERE k.is_injected), 0) AS injected
    FROM unnest(r.outcome_ids, r.outcome_counts) AS u (outcome_id, count)
    JOIN LATERAL (
        SELECT NOT c.connections OR c.unflagged AS is_request,
               CASE WHEN c.connections THEN NOT c.unflagged ELSE k.is_error END AS is_error,
               k.is_injected
        FROM outcome k,
             LATERAL (SELECT e.protocol = 'tcp' AND e.reporter <> 'trace' AS connections, k.flags IN ('', '-') AS unflagged) c
        WHERE k.outcome_id = u.outcome_id
    ) k ON true
) o;

-- Requests, errors and latency of each edge in each minute, counted once: the caller's report where there is one (source
-- or waypoint), else the called side's, else what spans say. Where a protocol's proxies use different histogram
-- buckets, an edge has one row for each layout: sum the counts, never average the quantiles.
CREATE VIEW edge_red_1m AS
SELECT minute, protocol,
       source_cluster, source_namespace, source_workload,
       destination_cluster, destination_namespace, destination_workload, service, service_namespace,
       min(reporter) AS reporter,
       sum(requests) AS requests, sum(errors) AS errors, sum(injected) AS injected,
       sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
       latency_bounds_ms, counts_sum(latency_counts) AS latency_counts, sum(latency_sum_ms) AS latency_sum_ms
FROM (
    SELECT *, min(CASE reporter WHEN 'source' THEN 1 WHEN 'waypoint' THEN 2 WHEN 'destination' THEN 3 ELSE 4 END) OVER (
                  PARTITION BY minute, protocol, source_cluster, source_namespace, source_workload,
                               destination_cluster, destination_namespace, destination_workload,
                               service, service_namespace) AS best
    FROM edge_report_1m
) reports
WHERE best = CASE reporter WHEN 'source' THEN 1 WHEN 'waypoint' THEN 2 WHEN 'destination' THEN 3 ELSE 4 END
GROUP BY minute, protocol, source_cluster, source_namespace, source_workload,
         destination_cluster, destination_namespace, destination_workload, service, service_namespace, latency_bounds_ms;

CREATE VIEW edge_red_1h AS
SELECT hour, protocol,
       source_cluster, source_namespace, source_workload,
       destination_cluster, destination_namespace, destination_workload, service, service_namespace,
       min(reporter) AS reporter,
       sum(requests) AS requests, sum(errors) AS errors, sum(injected) AS injected,
       sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
       latency_bounds_ms, counts_sum(latency_counts) AS latency_counts, sum(latency_sum_ms) AS latency_sum_ms
FROM (
    SELECT *, min(CASE reporter WHEN 'source' THEN 1 WHEN 'waypoint' THEN 2 WHEN 'destination' THEN 3 ELSE 4 END) OVER (
                  PARTITION BY hour, protocol, source_cluster, source_namespace, source_workload,
                               destination_cluster, destination_namespace, destination_workload,
                               service, service_namespace) AS best
    FROM edge_report_1h
) reports
WHERE best = CASE reporter WHEN 'source' THEN 1 WHEN 'waypoint' THEN 2 WHEN 'destination' THEN 3 ELSE 4 END
GROUP BY hour, protocol, source_cluster, source_namespace, source_workload,
         destination_cluster, destination_namespace, destination_workload, service, service_namespace, latency_bounds_ms;

-- The same by called service and workload, callers summed.
CREATE VIEW red_1m AS
SELECT minute, protocol, destination_cluster AS cluster, destination_namespace AS namespace,
       destination_workload AS workload, service, service_namespace,
       sum(requests) AS requests, sum(errors) AS errors, sum(injected) AS injected,
       sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
       latency_bounds_ms, counts_sum(latency_counts) AS latency_counts, sum(latency_sum_ms) AS latency_sum_ms
FROM edge_red_1m
GROUP BY minute, protocol, destination_cluster, destination_namespace, destination_workload, service, service_namespace,
         latency_bounds_ms;

CREATE VIEW red_1h AS
SELECT hour, protocol, destination_cluster AS cluster, destination_namespace AS namespace,
       destination_workload AS workload, service, service_namespace,
       sum(requests) AS requests, sum(errors) AS errors, sum(injected) AS injected,
       sum(request_bytes) AS request_bytes, sum(response_bytes) AS response_bytes,
       latency_bounds_ms, counts_sum(latency_counts) AS latency_counts, sum(latency_sum_ms) AS latency_sum_ms
FROM edge_red_1h
GROUP BY hour, protocol, destination_cluster, destination_namespace, destination_workload, service, service_namespace,
         latency_bounds_ms;

-- One row for each trace and batch: the index that trace search uses.
CREATE VIEW span_search AS
SELECT replace(trace_id::text, '-', '') AS trace_id, start_at,
       (end_ns - start_ns) / 1e6 AS duration_ms, span_count, error_count, longest_ns / 1e6 AS longest_ms,
       root_service, root_name, services, operations
FROM trace_part;
