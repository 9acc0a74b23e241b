-- A database as an earlier state of meshscope left it: commit 92ba8dd, whose last migration is 0023_trace_search. Nothing
-- has been released yet, so the "previous release" is the schema before access logs (0022), edge packs (0026), changes of
-- what is declared (0030), replicas (0034), subjects of notifications (0040) and names of access logs (0047).
-- Written by that commit's own store into a private PostgreSQL 15, a row or more in every table, and dumped with
-- `pg_dump --inserts --rows-per-insert=50 --no-owner --no-privileges --no-comments`, empty lines left out.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE TYPE public.latency_histogram AS (
	bounds_ms double precision[],
	counts double precision[]
);
CREATE FUNCTION public.counts_add(a double precision[], b double precision[]) RETURNS double precision[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE
        WHEN a IS NULL OR cardinality(a) = 0 THEN b
        WHEN b IS NULL OR cardinality(b) = 0 THEN a
        ELSE (SELECT array_agg(coalesce(x, 0) + coalesce(y, 0) ORDER BY i) FROM unnest(a, b) WITH ORDINALITY AS u (x, y, i))
    END
$$;
CREATE FUNCTION public.counts_coarsened(bounds double precision[], counts double precision[], kept double precision[]) RETURNS double precision[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT array_agg(count ORDER BY place)
    FROM (
        SELECT p.place, coalesce(sum(c.count), 0) AS count
        FROM generate_series(1, cardinality(kept) + 1) AS p (place)
        LEFT JOIN unnest(counts) WITH ORDINALITY AS c (count, i)
               ON (c.i > cardinality(bounds) OR p.place > cardinality(kept) OR bounds[c.i] <= kept[p.place])
              AND (p.place = 1 OR (c.i > cardinality(bounds)) OR bounds[c.i] > kept[p.place - 1])
              AND (c.i <= cardinality(bounds) OR p.place > cardinality(kept))
        GROUP BY p.place
    ) places
$$;
CREATE FUNCTION public.histogram_quantile(q double precision, histogram public.latency_histogram) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT histogram_quantile(q, (histogram).bounds_ms, (histogram).counts) $$;
CREATE FUNCTION public.histogram_quantile(q double precision, bounds double precision[], counts double precision[]) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
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
CREATE FUNCTION public.latency_add(total public.latency_histogram, bounds double precision[], counts double precision[]) RETURNS public.latency_histogram
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
DECLARE
    common double precision[];
BEGIN
    IF counts IS NULL OR cardinality(counts) = 0 THEN
        RETURN total;
    END IF;
    bounds := coalesce(bounds, '{}');
    IF total IS NULL OR total.counts IS NULL THEN
        RETURN ROW(bounds, counts)::latency_histogram;
    END IF;
    IF total.bounds_ms = bounds THEN
        RETURN ROW(bounds, counts_add(total.counts, counts))::latency_histogram;
    END IF;
    SELECT coalesce(array_agg(b ORDER BY b), '{}') INTO common FROM unnest(total.bounds_ms) AS b WHERE b = ANY (bounds);
    RETURN ROW(common, counts_add(counts_coarsened(total.bounds_ms, total.counts, common),
                                  counts_coarsened(bounds, counts, common)))::latency_histogram;
END
$$;
CREATE FUNCTION public.latency_combine(a public.latency_histogram, b public.latency_histogram) RETURNS public.latency_histogram
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT latency_add(a, (b).bounds_ms, (b).counts) $$;
CREATE AGGREGATE public.counts_sum(double precision[]) (
    SFUNC = public.counts_add,
    STYPE = double precision[],
    COMBINEFUNC = public.counts_add,
    PARALLEL = safe
);
CREATE AGGREGATE public.latency_sum(bounds double precision[], counts double precision[]) (
    SFUNC = public.latency_add,
    STYPE = public.latency_histogram,
    COMBINEFUNC = public.latency_combine,
    PARALLEL = safe
);
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE public.alert_event (
    at timestamp with time zone NOT NULL,
    fingerprint bigint NOT NULL,
    group_name text NOT NULL,
    to_state text NOT NULL,
    from_state text NOT NULL,
    alertname text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    value double precision NOT NULL
)
PARTITION BY RANGE (at);
CREATE TABLE public.alert_event_20260107 (
    at timestamp with time zone NOT NULL,
    fingerprint bigint NOT NULL,
    group_name text NOT NULL,
    to_state text NOT NULL,
    from_state text NOT NULL,
    alertname text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    value double precision NOT NULL
);
CREATE TABLE public.alert_event_other (
    at timestamp with time zone NOT NULL,
    fingerprint bigint NOT NULL,
    group_name text NOT NULL,
    to_state text NOT NULL,
    from_state text NOT NULL,
    alertname text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    value double precision NOT NULL
);
CREATE TABLE public.alert_state (
    group_name text NOT NULL,
    fingerprint bigint NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    state text NOT NULL,
    value double precision NOT NULL,
    active_at timestamp with time zone NOT NULL,
    fired_at timestamp with time zone,
    resolved_at timestamp with time zone,
    keep_firing_since timestamp with time zone,
    valid_until timestamp with time zone NOT NULL,
    generator_url text NOT NULL
);
CREATE TABLE public.chunk_5m (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
)
PARTITION BY RANGE (from_at);
ALTER TABLE ONLY public.chunk_5m ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_5m_20260107 (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_5m_20260107 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_5m_other (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_5m_other ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_damaged (
    tier text NOT NULL,
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    found_at timestamp with time zone DEFAULT now() NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL,
    reason text NOT NULL
);
CREATE TABLE public.chunk_raw (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
)
PARTITION BY RANGE (from_at);
ALTER TABLE ONLY public.chunk_raw ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_raw_20260115 (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_raw_20260115 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_raw_20260116 (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_raw_20260116 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_raw_20260117 (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_raw_20260117 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_raw_20260118 (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_raw_20260118 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.chunk_raw_other (
    label_set_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.chunk_raw_other ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.edge (
    edge_id bigint NOT NULL,
    mesh text NOT NULL,
    reporter text NOT NULL,
    protocol text NOT NULL,
    source_cluster text,
    source_namespace text,
    source_workload text,
    source_app text,
    source_version text,
    destination_cluster text,
    destination_namespace text,
    destination_workload text,
    destination_app text,
    destination_version text,
    service text,
    service_namespace text,
    service_host text,
    source_principal text,
    destination_principal text,
    security text NOT NULL
);
CREATE TABLE public.edge_rollup_1h (
    hour timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
)
PARTITION BY RANGE (hour);
CREATE TABLE public.latency_layout (
    layout_id bigint NOT NULL,
    bounds_ms double precision[] NOT NULL
);
CREATE TABLE public.outcome (
    outcome_id bigint NOT NULL,
    code text NOT NULL,
    grpc_status text NOT NULL,
    flags text NOT NULL,
    is_injected boolean GENERATED ALWAYS AS ((string_to_array(flags, ','::text) && ARRAY['DI'::text, 'FI'::text])) STORED NOT NULL,
    is_error boolean GENERATED ALWAYS AS (((NOT (string_to_array(flags, ','::text) && ARRAY['DI'::text, 'FI'::text])) AND ((code ~ '^5[0-9][0-9]$'::text) OR ((code = '0'::text) AND (NOT (string_to_array(flags, ','::text) && ARRAY['DC'::text]))) OR (grpc_status ~ '^([1-9]|1[0-6])$'::text)))) STORED NOT NULL
);
CREATE VIEW public.edge_report_1h AS
 SELECT r.hour,
    r.edge_id,
    e.mesh,
    e.reporter,
    e.protocol,
    e.source_cluster,
    e.source_namespace,
    e.source_workload,
    e.destination_cluster,
    e.destination_namespace,
    e.destination_workload,
    e.service,
    e.service_namespace,
    e.service_host,
    e.security,
    o.requests,
    o.errors,
    o.injected,
    r.request_bytes,
    r.response_bytes,
    r.connections_closed,
    l.bounds_ms AS latency_bounds_ms,
    r.latency_counts,
    r.latency_sum_ms
   FROM (((public.edge_rollup_1h r
     JOIN public.edge e USING (edge_id))
     LEFT JOIN public.latency_layout l USING (layout_id))
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(u.count) FILTER (WHERE k.is_request), (0)::double precision) AS requests,
            COALESCE(sum(u.count) FILTER (WHERE k.is_error), (0)::double precision) AS errors,
            COALESCE(sum(u.count) FILTER (WHERE k.is_injected), (0)::double precision) AS injected
           FROM (UNNEST(r.outcome_ids, r.outcome_counts) u(outcome_id, count)
             JOIN LATERAL ( SELECT ((NOT c.connections) OR c.unflagged) AS is_request,
                        CASE
                            WHEN c.connections THEN (NOT c.unflagged)
                            ELSE k_1.is_error
                        END AS is_error,
                    k_1.is_injected
                   FROM public.outcome k_1,
                    LATERAL ( SELECT ((e.protocol = 'tcp'::text) AND (e.reporter <> 'trace'::text)) AS connections,
                            (k_1.flags = ANY (ARRAY[''::text, '-'::text])) AS unflagged) c
                  WHERE (k_1.outcome_id = u.outcome_id)) k ON (true))) o);
CREATE VIEW public.edge_red_1h AS
 SELECT reports.hour,
    reports.protocol,
    reports.source_cluster,
    reports.source_namespace,
    reports.source_workload,
    reports.destination_cluster,
    reports.destination_namespace,
    reports.destination_workload,
    reports.service,
    reports.service_namespace,
    min(reports.reporter) AS reporter,
    sum(reports.requests) AS requests,
    sum(reports.errors) AS errors,
    sum(reports.injected) AS injected,
    sum(reports.request_bytes) AS request_bytes,
    sum(reports.response_bytes) AS response_bytes,
    reports.latency_bounds_ms,
    public.counts_sum(reports.latency_counts) AS latency_counts,
    sum(reports.latency_sum_ms) AS latency_sum_ms
   FROM ( SELECT edge_report_1h.hour,
            edge_report_1h.edge_id,
            edge_report_1h.mesh,
            edge_report_1h.reporter,
            edge_report_1h.protocol,
            edge_report_1h.source_cluster,
            edge_report_1h.source_namespace,
            edge_report_1h.source_workload,
            edge_report_1h.destination_cluster,
            edge_report_1h.destination_namespace,
            edge_report_1h.destination_workload,
            edge_report_1h.service,
            edge_report_1h.service_namespace,
            edge_report_1h.service_host,
            edge_report_1h.security,
            edge_report_1h.requests,
            edge_report_1h.errors,
            edge_report_1h.injected,
            edge_report_1h.request_bytes,
            edge_report_1h.response_bytes,
            edge_report_1h.connections_closed,
            edge_report_1h.latency_bounds_ms,
            edge_report_1h.latency_counts,
            edge_report_1h.latency_sum_ms,
            min(
                CASE edge_report_1h.reporter
                    WHEN 'source'::text THEN 1
                    WHEN 'waypoint'::text THEN 2
                    WHEN 'destination'::text THEN 3
                    ELSE 4
                END) OVER (PARTITION BY edge_report_1h.hour, edge_report_1h.protocol, edge_report_1h.source_cluster, edge_report_1h.source_namespace, edge_report_1h.source_workload, edge_report_1h.destination_cluster, edge_report_1h.destination_namespace, edge_report_1h.destination_workload, edge_report_1h.service, edge_report_1h.service_namespace) AS best
           FROM public.edge_report_1h) reports
  WHERE (reports.best =
        CASE reports.reporter
            WHEN 'source'::text THEN 1
            WHEN 'waypoint'::text THEN 2
            WHEN 'destination'::text THEN 3
            ELSE 4
        END)
  GROUP BY reports.hour, reports.protocol, reports.source_cluster, reports.source_namespace, reports.source_workload, reports.destination_cluster, reports.destination_namespace, reports.destination_workload, reports.service, reports.service_namespace, reports.latency_bounds_ms;
CREATE TABLE public.edge_rollup_1m (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
)
PARTITION BY RANGE (minute);
CREATE VIEW public.edge_report_1m AS
 SELECT r.minute,
    r.edge_id,
    e.mesh,
    e.reporter,
    e.protocol,
    e.source_cluster,
    e.source_namespace,
    e.source_workload,
    e.destination_cluster,
    e.destination_namespace,
    e.destination_workload,
    e.service,
    e.service_namespace,
    e.service_host,
    e.security,
    o.requests,
    o.errors,
    o.injected,
    r.request_bytes,
    r.response_bytes,
    r.connections_closed,
    l.bounds_ms AS latency_bounds_ms,
    r.latency_counts,
    r.latency_sum_ms
   FROM (((public.edge_rollup_1m r
     JOIN public.edge e USING (edge_id))
     LEFT JOIN public.latency_layout l USING (layout_id))
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(u.count) FILTER (WHERE k.is_request), (0)::double precision) AS requests,
            COALESCE(sum(u.count) FILTER (WHERE k.is_error), (0)::double precision) AS errors,
            COALESCE(sum(u.count) FILTER (WHERE k.is_injected), (0)::double precision) AS injected
           FROM (UNNEST(r.outcome_ids, r.outcome_counts) u(outcome_id, count)
             JOIN LATERAL ( SELECT ((NOT c.connections) OR c.unflagged) AS is_request,
                        CASE
                            WHEN c.connections THEN (NOT c.unflagged)
                            ELSE k_1.is_error
                        END AS is_error,
                    k_1.is_injected
                   FROM public.outcome k_1,
                    LATERAL ( SELECT ((e.protocol = 'tcp'::text) AND (e.reporter <> 'trace'::text)) AS connections,
                            (k_1.flags = ANY (ARRAY[''::text, '-'::text])) AS unflagged) c
                  WHERE (k_1.outcome_id = u.outcome_id)) k ON (true))) o);
CREATE VIEW public.edge_red_1m AS
 SELECT reports.minute,
    reports.protocol,
    reports.source_cluster,
    reports.source_namespace,
    reports.source_workload,
    reports.destination_cluster,
    reports.destination_namespace,
    reports.destination_workload,
    reports.service,
    reports.service_namespace,
    min(reports.reporter) AS reporter,
    sum(reports.requests) AS requests,
    sum(reports.errors) AS errors,
    sum(reports.injected) AS injected,
    sum(reports.request_bytes) AS request_bytes,
    sum(reports.response_bytes) AS response_bytes,
    reports.latency_bounds_ms,
    public.counts_sum(reports.latency_counts) AS latency_counts,
    sum(reports.latency_sum_ms) AS latency_sum_ms
   FROM ( SELECT edge_report_1m.minute,
            edge_report_1m.edge_id,
            edge_report_1m.mesh,
            edge_report_1m.reporter,
            edge_report_1m.protocol,
            edge_report_1m.source_cluster,
            edge_report_1m.source_namespace,
            edge_report_1m.source_workload,
            edge_report_1m.destination_cluster,
            edge_report_1m.destination_namespace,
            edge_report_1m.destination_workload,
            edge_report_1m.service,
            edge_report_1m.service_namespace,
            edge_report_1m.service_host,
            edge_report_1m.security,
            edge_report_1m.requests,
            edge_report_1m.errors,
            edge_report_1m.injected,
            edge_report_1m.request_bytes,
            edge_report_1m.response_bytes,
            edge_report_1m.connections_closed,
            edge_report_1m.latency_bounds_ms,
            edge_report_1m.latency_counts,
            edge_report_1m.latency_sum_ms,
            min(
                CASE edge_report_1m.reporter
                    WHEN 'source'::text THEN 1
                    WHEN 'waypoint'::text THEN 2
                    WHEN 'destination'::text THEN 3
                    ELSE 4
                END) OVER (PARTITION BY edge_report_1m.minute, edge_report_1m.protocol, edge_report_1m.source_cluster, edge_report_1m.source_namespace, edge_report_1m.source_workload, edge_report_1m.destination_cluster, edge_report_1m.destination_namespace, edge_report_1m.destination_workload, edge_report_1m.service, edge_report_1m.service_namespace) AS best
           FROM public.edge_report_1m) reports
  WHERE (reports.best =
        CASE reports.reporter
            WHEN 'source'::text THEN 1
            WHEN 'waypoint'::text THEN 2
            WHEN 'destination'::text THEN 3
            ELSE 4
        END)
  GROUP BY reports.minute, reports.protocol, reports.source_cluster, reports.source_namespace, reports.source_workload, reports.destination_cluster, reports.destination_namespace, reports.destination_workload, reports.service, reports.service_namespace, reports.latency_bounds_ms;
CREATE TABLE public.edge_rollup_1h_20260107 (
    hour timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1h_other (
    hour timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1m_20260115 (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1m_20260116 (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1m_20260117 (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1m_20260118 (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.edge_rollup_1m_other (
    minute timestamp with time zone NOT NULL,
    edge_id bigint NOT NULL,
    outcome_ids bigint[] NOT NULL,
    outcome_counts double precision[] NOT NULL,
    layout_id bigint,
    latency_counts double precision[] NOT NULL,
    latency_sum_ms double precision NOT NULL,
    request_bytes double precision NOT NULL,
    response_bytes double precision NOT NULL,
    connections_closed double precision NOT NULL,
    request_messages double precision NOT NULL,
    response_messages double precision NOT NULL
);
CREATE TABLE public.finding (
    finding_id bigint NOT NULL,
    code text NOT NULL,
    severity text NOT NULL,
    subject text NOT NULL,
    line integer,
    message text NOT NULL,
    fix text,
    first_seen_at timestamp with time zone NOT NULL,
    gone_at timestamp with time zone
);
ALTER TABLE public.finding ALTER COLUMN finding_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.finding_finding_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.journal (
    seq bigint NOT NULL,
    content_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    sample_count bigint NOT NULL,
    starts_epoch boolean NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.journal ALTER COLUMN bytes SET STORAGE EXTERNAL;
ALTER TABLE public.journal ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.journal_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.label_set (
    label_set_id bigint NOT NULL,
    labels jsonb NOT NULL
);
CREATE TABLE public.mesh_resource (
    resource text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    namespace text,
    name text NOT NULL,
    content_hash bigint NOT NULL,
    body text
);
CREATE TABLE public.metric (
    metric_id bigint NOT NULL,
    name text NOT NULL
);
CREATE TABLE public.notification (
    notification_id bigint NOT NULL,
    dedup_key text NOT NULL,
    receiver text NOT NULL,
    integration text NOT NULL,
    group_key text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    next_attempt_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    sent_at timestamp with time zone,
    given_up_at timestamp with time zone,
    last_error text,
    kind text DEFAULT 'webhook'::text NOT NULL,
    body text,
    told jsonb
);
ALTER TABLE public.notification ALTER COLUMN notification_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.notification_notification_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.notify_log (
    group_key text NOT NULL,
    receiver text NOT NULL,
    sent_at timestamp with time zone NOT NULL,
    firing_hashes bigint[] NOT NULL,
    resolved_hashes bigint[] NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.progress (
    name text NOT NULL,
    at timestamp with time zone NOT NULL,
    seq bigint DEFAULT 0 NOT NULL
);
CREATE VIEW public.red_1h AS
 SELECT edge_red_1h.hour,
    edge_red_1h.protocol,
    edge_red_1h.destination_cluster AS cluster,
    edge_red_1h.destination_namespace AS namespace,
    edge_red_1h.destination_workload AS workload,
    edge_red_1h.service,
    edge_red_1h.service_namespace,
    sum(edge_red_1h.requests) AS requests,
    sum(edge_red_1h.errors) AS errors,
    sum(edge_red_1h.injected) AS injected,
    sum(edge_red_1h.request_bytes) AS request_bytes,
    sum(edge_red_1h.response_bytes) AS response_bytes,
    edge_red_1h.latency_bounds_ms,
    public.counts_sum(edge_red_1h.latency_counts) AS latency_counts,
    sum(edge_red_1h.latency_sum_ms) AS latency_sum_ms
   FROM public.edge_red_1h
  GROUP BY edge_red_1h.hour, edge_red_1h.protocol, edge_red_1h.destination_cluster, edge_red_1h.destination_namespace, edge_red_1h.destination_workload, edge_red_1h.service, edge_red_1h.service_namespace, edge_red_1h.latency_bounds_ms;
CREATE VIEW public.red_1m AS
 SELECT edge_red_1m.minute,
    edge_red_1m.protocol,
    edge_red_1m.destination_cluster AS cluster,
    edge_red_1m.destination_namespace AS namespace,
    edge_red_1m.destination_workload AS workload,
    edge_red_1m.service,
    edge_red_1m.service_namespace,
    sum(edge_red_1m.requests) AS requests,
    sum(edge_red_1m.errors) AS errors,
    sum(edge_red_1m.injected) AS injected,
    sum(edge_red_1m.request_bytes) AS request_bytes,
    sum(edge_red_1m.response_bytes) AS response_bytes,
    edge_red_1m.latency_bounds_ms,
    public.counts_sum(edge_red_1m.latency_counts) AS latency_counts,
    sum(edge_red_1m.latency_sum_ms) AS latency_sum_ms
   FROM public.edge_red_1m
  GROUP BY edge_red_1m.minute, edge_red_1m.protocol, edge_red_1m.destination_cluster, edge_red_1m.destination_namespace, edge_red_1m.destination_workload, edge_red_1m.service, edge_red_1m.service_namespace, edge_red_1m.latency_bounds_ms;
CREATE TABLE public.remote_write_place (
    remote text NOT NULL,
    seq bigint NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.scrape_settings (
    only_row boolean DEFAULT true NOT NULL,
    settings_id bigint NOT NULL,
    CONSTRAINT scrape_settings_only_row_check CHECK (only_row)
);
CREATE TABLE public.series (
    series_id bigint NOT NULL,
    metric_id bigint NOT NULL,
    label_set_id bigint NOT NULL,
    le text,
    last_day date NOT NULL
);
CREATE VIEW public.series_labels AS
 SELECT s.series_id,
    m.name AS metric,
        CASE
            WHEN (s.le IS NULL) THEN l.labels
            ELSE (l.labels || jsonb_build_object('le', s.le))
        END AS labels,
    s.last_day
   FROM ((public.series s
     JOIN public.metric m USING (metric_id))
     JOIN public.label_set l USING (label_set_id));
CREATE TABLE public.silence (
    silence_id text NOT NULL,
    matchers jsonb NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    comment text NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE public.span_batch (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
)
PARTITION BY RANGE (from_at);
ALTER TABLE ONLY public.span_batch ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.span_batch_20260115 (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.span_batch_20260115 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.span_batch_20260116 (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.span_batch_20260116 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.span_batch_20260117 (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.span_batch_20260117 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.span_batch_20260118 (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.span_batch_20260118 ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.span_batch_other (
    batch_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    span_count integer NOT NULL,
    bytes bytea NOT NULL
);
ALTER TABLE ONLY public.span_batch_other ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE public.trace_part (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
)
PARTITION BY RANGE (start_at);
CREATE VIEW public.span_search AS
 SELECT replace((trace_part.trace_id)::text, '-'::text, ''::text) AS trace_id,
    trace_part.start_at,
    (((trace_part.end_ns - trace_part.start_ns))::numeric / '1000000'::numeric) AS duration_ms,
    trace_part.span_count,
    trace_part.error_count,
    ((trace_part.longest_ns)::numeric / '1000000'::numeric) AS longest_ms,
    trace_part.root_service,
    trace_part.root_name,
    trace_part.services,
    trace_part.operations
   FROM public.trace_part;
CREATE TABLE public.trace_part_20260115 (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
);
CREATE TABLE public.trace_part_20260116 (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
);
CREATE TABLE public.trace_part_20260117 (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
);
CREATE TABLE public.trace_part_20260118 (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
);
CREATE TABLE public.trace_part_other (
    trace_id uuid NOT NULL,
    start_at timestamp with time zone NOT NULL,
    batch_id bigint NOT NULL,
    batch_at timestamp with time zone NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    longest_ns bigint NOT NULL,
    root_service text,
    root_name text,
    services text[] NOT NULL,
    operations text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL
);
ALTER TABLE ONLY public.alert_event ATTACH PARTITION public.alert_event_20260107 FOR VALUES FROM ('2026-01-07 00:00:00+00') TO ('2026-02-06 00:00:00+00');
ALTER TABLE ONLY public.alert_event ATTACH PARTITION public.alert_event_other DEFAULT;
ALTER TABLE ONLY public.chunk_5m ATTACH PARTITION public.chunk_5m_20260107 FOR VALUES FROM ('2026-01-07 00:00:00+00') TO ('2026-02-06 00:00:00+00');
ALTER TABLE ONLY public.chunk_5m ATTACH PARTITION public.chunk_5m_other DEFAULT;
ALTER TABLE ONLY public.chunk_raw ATTACH PARTITION public.chunk_raw_20260115 FOR VALUES FROM ('2026-01-15 00:00:00+00') TO ('2026-01-16 00:00:00+00');
ALTER TABLE ONLY public.chunk_raw ATTACH PARTITION public.chunk_raw_20260116 FOR VALUES FROM ('2026-01-16 00:00:00+00') TO ('2026-01-17 00:00:00+00');
ALTER TABLE ONLY public.chunk_raw ATTACH PARTITION public.chunk_raw_20260117 FOR VALUES FROM ('2026-01-17 00:00:00+00') TO ('2026-01-18 00:00:00+00');
ALTER TABLE ONLY public.chunk_raw ATTACH PARTITION public.chunk_raw_20260118 FOR VALUES FROM ('2026-01-18 00:00:00+00') TO ('2026-01-19 00:00:00+00');
ALTER TABLE ONLY public.chunk_raw ATTACH PARTITION public.chunk_raw_other DEFAULT;
ALTER TABLE ONLY public.edge_rollup_1h ATTACH PARTITION public.edge_rollup_1h_20260107 FOR VALUES FROM ('2026-01-07 00:00:00+00') TO ('2026-02-06 00:00:00+00');
ALTER TABLE ONLY public.edge_rollup_1h ATTACH PARTITION public.edge_rollup_1h_other DEFAULT;
ALTER TABLE ONLY public.edge_rollup_1m ATTACH PARTITION public.edge_rollup_1m_20260115 FOR VALUES FROM ('2026-01-15 00:00:00+00') TO ('2026-01-16 00:00:00+00');
ALTER TABLE ONLY public.edge_rollup_1m ATTACH PARTITION public.edge_rollup_1m_20260116 FOR VALUES FROM ('2026-01-16 00:00:00+00') TO ('2026-01-17 00:00:00+00');
ALTER TABLE ONLY public.edge_rollup_1m ATTACH PARTITION public.edge_rollup_1m_20260117 FOR VALUES FROM ('2026-01-17 00:00:00+00') TO ('2026-01-18 00:00:00+00');
ALTER TABLE ONLY public.edge_rollup_1m ATTACH PARTITION public.edge_rollup_1m_20260118 FOR VALUES FROM ('2026-01-18 00:00:00+00') TO ('2026-01-19 00:00:00+00');
ALTER TABLE ONLY public.edge_rollup_1m ATTACH PARTITION public.edge_rollup_1m_other DEFAULT;
ALTER TABLE ONLY public.span_batch ATTACH PARTITION public.span_batch_20260115 FOR VALUES FROM ('2026-01-15 00:00:00+00') TO ('2026-01-16 00:00:00+00');
ALTER TABLE ONLY public.span_batch ATTACH PARTITION public.span_batch_20260116 FOR VALUES FROM ('2026-01-16 00:00:00+00') TO ('2026-01-17 00:00:00+00');
ALTER TABLE ONLY public.span_batch ATTACH PARTITION public.span_batch_20260117 FOR VALUES FROM ('2026-01-17 00:00:00+00') TO ('2026-01-18 00:00:00+00');
ALTER TABLE ONLY public.span_batch ATTACH PARTITION public.span_batch_20260118 FOR VALUES FROM ('2026-01-18 00:00:00+00') TO ('2026-01-19 00:00:00+00');
ALTER TABLE ONLY public.span_batch ATTACH PARTITION public.span_batch_other DEFAULT;
ALTER TABLE ONLY public.trace_part ATTACH PARTITION public.trace_part_20260115 FOR VALUES FROM ('2026-01-15 00:00:00+00') TO ('2026-01-16 00:00:00+00');
ALTER TABLE ONLY public.trace_part ATTACH PARTITION public.trace_part_20260116 FOR VALUES FROM ('2026-01-16 00:00:00+00') TO ('2026-01-17 00:00:00+00');
ALTER TABLE ONLY public.trace_part ATTACH PARTITION public.trace_part_20260117 FOR VALUES FROM ('2026-01-17 00:00:00+00') TO ('2026-01-18 00:00:00+00');
ALTER TABLE ONLY public.trace_part ATTACH PARTITION public.trace_part_20260118 FOR VALUES FROM ('2026-01-18 00:00:00+00') TO ('2026-01-19 00:00:00+00');
ALTER TABLE ONLY public.trace_part ATTACH PARTITION public.trace_part_other DEFAULT;
INSERT INTO public._sqlx_migrations VALUES
	(1, 'series', '2026-11-23 13:40:20.852512+00', true, '\x63d6525744776d3a5c0d2476d77633bf284bf5343fa888d4a6c65f03436cbb532e3cf646f2d8e6707df65498238ba61b', 59366618),
	(2, 'edges', '2026-11-23 13:40:20.915792+00', true, '\x09b01c8a0059943973aa66427af8acf7be8815cadaa2d5b4a710be53482167fb7d04b5db6660f5178953a9f08a76a57d', 52042976),
	(3, 'spans', '2026-11-23 13:40:20.970207+00', true, '\xa65d69a33cce19847733bada101f9af415c655fca5938b4bb278ec1385e0c135037ca2fa5787e309e184f2ed8ed4eb19', 21670365),
	(4, 'alerts', '2026-11-23 13:40:20.992955+00', true, '\xc935f67c4340cbf091a6d871b9b43dd2c66a8f0dd1ac2c2f3db0bf540cd3a8f43c7fc844e22b796db9568fa8aee9fd38', 55507816),
	(5, 'mesh', '2026-11-23 13:40:21.055817+00', true, '\x61dd720e26c9e737efd8ab414e0ccc1132809812d062ea3847b9c0974f265dcc6001e604387643aa110414b278ccf8cf', 37637775),
	(6, 'views', '2026-11-23 13:40:21.099809+00', true, '\x272c0dce388a869f0f27511139874f90cac8056ce7bf4b1a7a0fcd4639f382d550c489a66f4cbdd77a7ef4e5ece0a0c2', 25813564),
	(7, 'chunks by label set', '2026-11-23 13:40:21.136151+00', true, '\x89421b659e4fba64bc019b5e985ec3e8489a4e5c070b5d7aac664d1cb214936029ea5c11d4c19be875cd257b4a453843', 51674736),
	(9, 'scrape settings', '2026-11-23 13:40:21.188315+00', true, '\x55e3a8f479952622575cdc62668a5e167bfc5e50868019c5e70c8bb5cd49c3143b45344008a09068bf6e7867fbeecef8', 3395664),
	(10, 'latency sum', '2026-11-23 13:40:21.193363+00', true, '\x6705528f500136829b5affd0763f8e9c3bc6517d3d0daf37851a5935a16995a17019e1b310d71b55d9af582f2692f246', 6359203),
	(15, 'chunk damaged', '2026-11-23 13:40:21.20084+00', true, '\xaa84f551668f99ee864dd29dc7b49c362e6d88e92dcc7870178d675c13d729a5e34d423670c01981c5526a2623e17156', 10950084),
	(16, 'deliveries', '2026-11-23 13:40:21.215+00', true, '\x00e57086ab16fa9fd593003c5b7b9e7a5d0bef244863db25fbb59f949884cb3838be47fd8aafbb0a682a5540dd66f356', 2361084),
	(18, 'remote write place', '2026-11-23 13:40:21.219674+00', true, '\x02b9aacb64888a8b77f36f4cfe36f7fa3b54539052f67850f8894f2cc3f02f7cbcc2235d71500282a63f52b728b6db20', 12013562),
	(21, 'alert story', '2026-11-23 13:40:21.235702+00', true, '\x4d67ccec3255bb8fe18685defce9e0a282b6633d55cd6a8884c08304132c2be4b699c66a260a021efbd502e94b1faab4', 7785292),
	(23, 'trace search', '2026-11-23 13:40:21.245254+00', true, '\x82bfe73ff50671b137a384eb3831b009777eb59276603033f5377012b3b7943ff5f5c89ecb16cbb0865c61f75dac4c91', 18547752);
INSERT INTO public.alert_event_20260107 VALUES
	('2026-01-15 00:00:00+00', -3299943604326566190, 'rules.yaml;mesh', 'firing', 'pending', 'A', '{"service": "cart", "alertname": "A"}', '{"summary": "it \"burns\""}', 0.25),
	('2026-01-15 00:01:00+00', -7718942399627705217, 'rules.yaml;mesh', 'firing', 'pending', 'B', '{"service": "cart", "alertname": "B"}', '{"summary": "it \"burns\""}', 0.25),
	('2026-01-15 00:02:00+00', -3299943604326566190, 'rules.yaml;mesh', 'inactive', 'pending', 'A', '{"service": "cart", "alertname": "A"}', '{"summary": "it \"burns\""}', 0.25);
INSERT INTO public.alert_state VALUES
	('rules.yaml;mesh', -7718942399627705217, '{"service": "cart", "alertname": "B"}', '{"summary": "it \"burns\""}', 'firing', 0.25, '2026-01-15 00:00:00+00', '2026-01-15 00:01:00+00', NULL, NULL, '2026-01-16 00:00:00+00', '/explore?q=up');
INSERT INTO public.chunk_5m_20260107 VALUES
	(-6874941599163655393, '2026-01-15 00:00:00+00', '2026-01-15 23:50:00+00', 144, '\x010000000e72657175657374735f746f74616c000000000000001d01900180c09deff7660100809f49008e010100004080324080320f8032'),
	(8335174897221976041, '2026-01-15 00:00:00+00', '2026-01-15 23:50:00+00', 144, '\x010000000e72657175657374735f746f74616c000000000000002501900180c09deff7660100809f49008e010100004080fa012380fa01410180f4032a80fa01'),
	(8754791743473293849, '2026-01-15 00:00:00+00', '2026-01-15 23:50:00+00', 288, '\x020000006b28b52ffd206bc50200c4040000000e6c6174656e63795f6275636b6574000000042b496e660000002001900180c09deff7660100809f49008e0101000040808a050f808a050135000000120290c2034080c2030f80c203030050071e8427b6e5a0');
INSERT INTO public.chunk_damaged VALUES
	('chunk_raw', -6874941599163655393, '2026-01-14 22:00:00+00', '2026-11-23 13:40:21.698474+00', '2026-01-14 23:00:00+00', 3, '\x02ff', 'it ends too early');
INSERT INTO public.chunk_raw_20260115 VALUES
	(-6874941599163655393, '2026-01-15 00:00:00+00', '2026-01-15 01:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80c09deff7660b00809f490100000b8032'),
	(-6874941599163655393, '2026-01-15 02:00:00+00', '2026-01-15 03:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80b48cf6f7660b00809f490100060b8032'),
	(-6874941599163655393, '2026-01-15 04:00:00+00', '2026-01-15 05:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80a8fbfcf7660b00809f4901000c0b8032'),
	(-6874941599163655393, '2026-01-15 06:00:00+00', '2026-01-15 07:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c809cea83f8660b00809f490100120b8032'),
	(-6874941599163655393, '2026-01-15 08:00:00+00', '2026-01-15 09:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c8090d98af8660b00809f490100180b8032'),
	(-6874941599163655393, '2026-01-15 10:00:00+00', '2026-01-15 11:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c8084c891f8660b00809f4901001e0b8032'),
	(-6874941599163655393, '2026-01-15 12:00:00+00', '2026-01-15 13:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80f8b698f8660b00809f490100240b8032'),
	(-6874941599163655393, '2026-01-15 14:00:00+00', '2026-01-15 15:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80eca59ff8660b00809f4901002a0b8032'),
	(-6874941599163655393, '2026-01-15 16:00:00+00', '2026-01-15 17:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80e094a6f8660b00809f490100300b8032'),
	(-6874941599163655393, '2026-01-15 18:00:00+00', '2026-01-15 19:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80d483adf8660b00809f490100360b8032'),
	(-6874941599163655393, '2026-01-15 20:00:00+00', '2026-01-15 21:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80c8f2b3f8660b00809f4901003c0b8032'),
	(-6874941599163655393, '2026-01-15 22:00:00+00', '2026-01-15 23:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000013010c80bce1baf8660b00809f490100420b8032'),
	(8335174897221976041, '2026-01-15 00:00:00+00', '2026-01-15 01:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000014010c80c09deff7660b00809f490100000b80fa01'),
	(8335174897221976041, '2026-01-15 02:00:00+00', '2026-01-15 03:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000014010c80b48cf6f7660b00809f4901001e0b80fa01'),
	(8335174897221976041, '2026-01-15 04:00:00+00', '2026-01-15 05:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000014010c80a8fbfcf7660b00809f4901003c0b80fa01'),
	(8335174897221976041, '2026-01-15 06:00:00+00', '2026-01-15 07:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000014010c809cea83f8660b00809f4901005a0b80fa01'),
	(8335174897221976041, '2026-01-15 08:00:00+00', '2026-01-15 09:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000014010c8090d98af8660b00809f490100780b80fa01'),
	(8335174897221976041, '2026-01-15 10:00:00+00', '2026-01-15 11:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c8084c891f8660b00809f49010096010b80fa01'),
	(8335174897221976041, '2026-01-15 12:00:00+00', '2026-01-15 13:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c80f8b698f8660b00809f490100b4010b80fa01'),
	(8335174897221976041, '2026-01-15 14:00:00+00', '2026-01-15 15:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c80eca59ff8660b00809f490100d2010b80fa01'),
	(8335174897221976041, '2026-01-15 16:00:00+00', '2026-01-15 17:50:00+00', 12, '\x010000000e72657175657374735f746f74616c000000000000001e010c80e094a6f8660b00809f490100f0010380fa01410180f4030680fa01'),
	(8335174897221976041, '2026-01-15 18:00:00+00', '2026-01-15 19:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c80d483adf8660b00809f4901008e020b80fa01'),
	(8335174897221976041, '2026-01-15 20:00:00+00', '2026-01-15 21:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c80c8f2b3f8660b00809f490100ac020b80fa01'),
	(8335174897221976041, '2026-01-15 22:00:00+00', '2026-01-15 23:50:00+00', 12, '\x010000000e72657175657374735f746f74616c0000000000000015010c80bce1baf8660b00809f490100ca020b80fa01'),
	(8754791743473293849, '2026-01-15 00:00:00+00', '2026-01-15 01:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000014010c80c09deff7660b00809f490100000b808a050000000e6c6174656e63795f6275636b6574000000013500000009020c0100000b80c203'),
	(8754791743473293849, '2026-01-15 02:00:00+00', '2026-01-15 03:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000014010c80b48cf6f7660b00809f4901004e0b808a050000000e6c6174656e63795f6275636b6574000000013500000009020c0100360b80c203'),
	(8754791743473293849, '2026-01-15 04:00:00+00', '2026-01-15 05:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80a8fbfcf7660b00809f4901009c010b808a050000000e6c6174656e63795f6275636b6574000000013500000009020c01006c0b80c203'),
	(8754791743473293849, '2026-01-15 06:00:00+00', '2026-01-15 07:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c809cea83f8660b00809f490100ea010b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100a2010b80c203'),
	(8754791743473293849, '2026-01-15 08:00:00+00', '2026-01-15 09:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c8090d98af8660b00809f490100b8020b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100d8010b80c203'),
	(8754791743473293849, '2026-01-15 10:00:00+00', '2026-01-15 11:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c8084c891f8660b00809f49010086030b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c01008e020b80c203'),
	(8754791743473293849, '2026-01-15 12:00:00+00', '2026-01-15 13:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80f8b698f8660b00809f490100d4030b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100c4020b80c203'),
	(8754791743473293849, '2026-01-15 14:00:00+00', '2026-01-15 15:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80eca59ff8660b00809f490100a2040b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100fa020b80c203'),
	(8754791743473293849, '2026-01-15 16:00:00+00', '2026-01-15 17:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80e094a6f8660b00809f490100f0040b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100b0030b80c203'),
	(8754791743473293849, '2026-01-15 18:00:00+00', '2026-01-15 19:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80d483adf8660b00809f490100be050b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100e6030b80c203'),
	(8754791743473293849, '2026-01-15 20:00:00+00', '2026-01-15 21:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80c8f2b3f8660b00809f4901008c060b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c01009c040b80c203'),
	(8754791743473293849, '2026-01-15 22:00:00+00', '2026-01-15 23:50:00+00', 24, '\x010000000e6c6174656e63795f6275636b6574000000042b496e6600000015010c80bce1baf8660b00809f490100da060b808a050000000e6c6174656e63795f6275636b657400000001350000000a020c0100d2040b80c203');
INSERT INTO public.edge VALUES
	(4339003481415123354, 'istio', 'source', 'http', NULL, 'shop', 'web', NULL, NULL, NULL, 'shop', 'cart', NULL, NULL, 'cart', 'shop', NULL, NULL, 'spiffe://cluster.local/ns/shop/sa/x', 'unknown'),
	(6841854698790870836, 'istio', 'source', 'http', NULL, 'shop', 'cart', NULL, NULL, NULL, 'shop', 'db', NULL, NULL, 'db', 'shop', NULL, NULL, 'spiffe://cluster.local/ns/shop/sa/x', 'unknown');
INSERT INTO public.edge_rollup_1h_20260107 VALUES
	('2026-01-15 00:00:00+00', 6841854698790870836, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:00:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{5400,600}', -4045247955537750091, '{3000,1800,900,300}', 48750, 60000, 120030, 0, 0, 0);
INSERT INTO public.edge_rollup_1m_20260115 VALUES
	('2026-01-15 00:18:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:59:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:31:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:08:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:29:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:34:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:06:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:10:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:40:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:56:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:46:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:07:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:04:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:11:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:50:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:41:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:53:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:16:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:55:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:11:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:28:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:13:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:47:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:52:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:32:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:06:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:51:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:30:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:15:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:20:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:42:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:00:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:09:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:03:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:07:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:17:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:23:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:48:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:54:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:04:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:12:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:13:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:25:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:45:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:02:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:58:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:22:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:36:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:27:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:38:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0);
INSERT INTO public.edge_rollup_1m_20260115 VALUES
	('2026-01-15 00:08:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:05:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:44:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:01:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:24:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:02:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:19:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:03:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:12:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:14:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:21:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:09:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:43:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:00:00+00', 6841854698790870836, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:01:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:33:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:00:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:10:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:26:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:49:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:37:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 01:05:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:35:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:14:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:57:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0),
	('2026-01-15 00:39:00+00', 4339003481415123354, '{-7161594627870163844,-3393249145133015233}', '{90,10}', -4045247955537750091, '{50,30,15,5}', 812.5, 1000, 2000.5, 0, 0, 0);
INSERT INTO public.finding OVERRIDING SYSTEM VALUE VALUES
	(2, 'MS0101', 'warning', 'VirtualService shop/web', 3, 'no such host', NULL, '2026-01-15 00:00:00+00', NULL),
	(1, 'MS0101', 'warning', 'VirtualService shop/cart', 3, 'no such host', NULL, '2026-01-15 00:00:00+00', '2026-01-15 01:00:00+00');
INSERT INTO public.journal OVERRIDING SYSTEM VALUE VALUES
	(2, 7846190787464316045, '2026-01-15 13:00:00+00', '2026-01-16 01:50:00+00', 312, true, '\x4d534a311c1d85f16f529b940200e91828b52ffd64690b751200469c5e3b5067a30e90969e6029f352d3528b4b0ffdcc1a071c89809d68c0010262951921807618697c33eb8e0563157a2b181eaed45c0a4d86db6a02dbca14570048004f000f3eb777bf8302cba79568d8781d3680e5ffff2c24ca04111c583e25220e0016f38d80c6d880080a88070311110c3f20094dd34df71b88ee431e58821f26f0044641002b90f0bf79f425994c6b6101840586259145f30e974edd727d99da935f6d9dedccef27b99a5b77b71c45eb5cb753f6d6af33e649f646dd4e976b337b97bab3d1f34df22be9dd6d73e5d43ae34b9405fb1b73954edd7efaa535275f21d59565a050ece8b75eb70e75497668ddc7a3628461a8685699df316d34a890298de9ff1cafb35718a67771fa7d9d5b03bc25de1afdfbaaa18c26dea506086e3f39650383b179678794286b7d63ae017ffdffff97053d6593e1ed9f8a51632afa6c7295fe303d8652e974eb9bed39e1b30af46b8ad1ada1034225bedebf5d415b644410477b34637cca7caf202903728aa39e32263741e73bf080fca841885952d98f39a09324e912404030954584c46164242c0dca70615a03eca6ea0f2ef736595b3cf71a1d1a19ded2c81be38e92c3a1e34c66b1f76f3f16c9ad6971d7bfb2956595eafedb2b15b8505496300b50ce8e4c7f8c4bf35cef017def1ea6e8a4300127fa52aa20f54ae585cce99e97739ef5266e80ec4da662b263a03de34878048c3e8f99abe3b9c98736ac5a45fead10da26e41c4911f7d6e4df37f22651f72c0e5200e540c4b0e9223c3a8ead5c4c6b7cb9b269ded7dfa31d505ec36aee9b2ab4d843f9b8858ac2b52a4016de28');
INSERT INTO public.label_set VALUES
	(8335174897221976041, '{"pod": "b", "note": "é\"\\"}'),
	(8754791743473293849, '{"pod": "a"}'),
	(-6874941599163655393, '{"pod": "a", "note": "é\"\\"}');
INSERT INTO public.latency_layout VALUES
	(-4045247955537750091, '{5,10,25}');
INSERT INTO public.mesh_resource VALUES
	('/VirtualService/shop/cart', '2026-01-15 00:00:00+00', 'VirtualService', 'shop', 'cart', -2314404020605780944, 'spec: {hosts: [cart]}'),
	('/VirtualService/shop/cart', '2026-01-15 02:00:00+00', 'VirtualService', 'shop', 'cart', -3162216497309240828, NULL);
INSERT INTO public.metric VALUES
	(-9178396089438196274, 'requests_total'),
	(-9068637508147197193, 'latency_bucket');
INSERT INTO public.notification OVERRIDING SYSTEM VALUE VALUES
	(1, 'sent', 'team', 'webhook[0]', '{}:{alertname="B"}', '{"alerts": [{"labels": {"service": "cart", "alertname": "B"}, "status": "firing", "annotations": {"summary": "it burns"}, "fingerprint": "00ff"}], "groupLabels": {"alertname": "B"}, "commonLabels": {"alertname": "B"}}', '2026-01-15 00:01:00+00', NULL, 0, '2026-01-15 00:01:01+00', NULL, NULL, 'webhook', '{"b":1,"a":2}
', '{"at_ms": 7, "firing": ["00ff"]}'),
	(2, 'failed', 'team', 'webhook[0]', '{}:{alertname="B"}', '{"alerts": [{"labels": {"service": "cart", "alertname": "B"}, "status": "firing", "annotations": {"summary": "it burns"}, "fingerprint": "00ff"}], "groupLabels": {"alertname": "B"}, "commonLabels": {"alertname": "B"}}', '2026-01-15 00:01:00+00', NULL, 1, NULL, '2026-01-15 00:01:02+00', '400 from the webhook', 'webhook', '{"b":1,"a":2}
', '{"at_ms": 7, "firing": ["00ff"]}'),
	(3, 'waiting', 'team', 'webhook[0]', '{}:{alertname="B"}', '{"alerts": [{"labels": {"service": "cart", "alertname": "B"}, "status": "firing", "annotations": {"summary": "it burns"}, "fingerprint": "00ff"}], "groupLabels": {"alertname": "B"}, "commonLabels": {"alertname": "B"}}', '2026-01-15 00:01:00+00', '2026-01-15 01:00:00+00', 1, NULL, NULL, '500 from the webhook', 'webhook', '{"b":1,"a":2}
', '{"at_ms": 7, "firing": ["00ff"]}');
INSERT INTO public.notify_log VALUES
	('{}:{alertname="B"}', 'team/webhook/0', '2026-01-15 00:01:01+00', '{1,-1}', '{}', '2026-01-20 00:00:00+00');
INSERT INTO public.outcome VALUES
	(-3393249145133015233, '503', '', 'UF,URX', DEFAULT, DEFAULT),
	(-7161594627870163844, '200', '', '-', DEFAULT, DEFAULT);
INSERT INTO public.progress VALUES
	('past_written', '2026-11-23 13:40:21.678616+00', 2),
	('chunked_until', '2026-01-16 00:00:00+00', 0),
	('metric_names', '2026-11-23 13:40:21.678616+00', 1),
	('thinned_until', '2026-01-16 00:00:00+00', 0),
	('rolled_hours_until', '2026-01-15 01:00:00+00', 0);
INSERT INTO public.remote_write_place VALUES
	('mimir', 2);
INSERT INTO public.scrape_settings VALUES
	(true, 6999538405176056454);
INSERT INTO public.series VALUES
	(-7430610116551483163, -9178396089438196274, 8335174897221976041, NULL, '2026-01-15'),
	(-1772092072956048129, -9068637508147197193, 8754791743473293849, '5', '2026-01-15'),
	(-8327369116892156561, -9178396089438196274, -6874941599163655393, NULL, '2026-01-15'),
	(-338321250428767732, -9068637508147197193, 8754791743473293849, '+Inf', '2026-01-15');
INSERT INTO public.silence VALUES
	('7d8d1b5e-0000-4000-8000-000000000001', '[{"op": "=", "name": "service", "value": "cart"}, {"op": "!~", "name": "severity", "value": "page|critical"}]', '2026-01-15 00:00:00+00', '2026-01-15 01:00:00+00', 'on-call', 'a deploy', '2026-01-15 00:00:00+00');
INSERT INTO public.span_batch_20260115 VALUES
	(-7393522474113600464, '2026-01-15 00:00:00+00', '2026-01-15 00:00:00.005+00', 2, '\x4d53423128b52ffd20b52d04003407080c736572766963652e6e616d650377656209474554202f6361727404746573740010687474702e7374617475735f636f64650572657472790463617274020100000101000007020003ab010203048080e084bc9cdf8a318087a70e010503ee0701020600000132ab02010702030480ade20406005b49068e015704ba03e2960e9c01');
INSERT INTO public.trace_part_20260115 VALUES
	('abababab-abab-abab-abab-abababababab', '2026-01-15 00:00:00+00', -7393522474113600464, '2026-01-15 00:00:00+00', 1768435200000000000, 1768435200035000000, 2, 1, 30000000, 'web', 'GET /cart', '{cart,web}', '{"GET /cart"}', '{-9126557119212292111,-8379744491017531810,1319122315945861838}');
SELECT pg_catalog.setval('public.finding_finding_id_seq', 3, true);
SELECT pg_catalog.setval('public.journal_seq_seq', 2, true);
SELECT pg_catalog.setval('public.notification_notification_id_seq', 3, true);
ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.alert_event
    ADD CONSTRAINT alert_event_pkey PRIMARY KEY (at, fingerprint, group_name, to_state);
ALTER TABLE ONLY public.alert_event_20260107
    ADD CONSTRAINT alert_event_20260107_pkey PRIMARY KEY (at, fingerprint, group_name, to_state);
ALTER TABLE ONLY public.alert_event_other
    ADD CONSTRAINT alert_event_other_pkey PRIMARY KEY (at, fingerprint, group_name, to_state);
ALTER TABLE ONLY public.alert_state
    ADD CONSTRAINT alert_state_pkey PRIMARY KEY (group_name, fingerprint);
ALTER TABLE ONLY public.chunk_5m
    ADD CONSTRAINT chunk_5m_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_5m_20260107
    ADD CONSTRAINT chunk_5m_20260107_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_5m_other
    ADD CONSTRAINT chunk_5m_other_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_damaged
    ADD CONSTRAINT chunk_damaged_pkey PRIMARY KEY (label_set_id, tier, from_at, found_at);
ALTER TABLE ONLY public.chunk_raw
    ADD CONSTRAINT chunk_raw_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_raw_20260115
    ADD CONSTRAINT chunk_raw_20260115_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_raw_20260116
    ADD CONSTRAINT chunk_raw_20260116_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_raw_20260117
    ADD CONSTRAINT chunk_raw_20260117_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_raw_20260118
    ADD CONSTRAINT chunk_raw_20260118_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.chunk_raw_other
    ADD CONSTRAINT chunk_raw_other_pkey PRIMARY KEY (label_set_id, from_at);
ALTER TABLE ONLY public.edge
    ADD CONSTRAINT edge_pkey PRIMARY KEY (edge_id);
ALTER TABLE ONLY public.edge_rollup_1h
    ADD CONSTRAINT edge_rollup_1h_pkey PRIMARY KEY (edge_id, hour);
ALTER TABLE ONLY public.edge_rollup_1h_20260107
    ADD CONSTRAINT edge_rollup_1h_20260107_pkey PRIMARY KEY (edge_id, hour);
ALTER TABLE ONLY public.edge_rollup_1h_other
    ADD CONSTRAINT edge_rollup_1h_other_pkey PRIMARY KEY (edge_id, hour);
ALTER TABLE ONLY public.edge_rollup_1m
    ADD CONSTRAINT edge_rollup_1m_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.edge_rollup_1m_20260115
    ADD CONSTRAINT edge_rollup_1m_20260115_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.edge_rollup_1m_20260116
    ADD CONSTRAINT edge_rollup_1m_20260116_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.edge_rollup_1m_20260117
    ADD CONSTRAINT edge_rollup_1m_20260117_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.edge_rollup_1m_20260118
    ADD CONSTRAINT edge_rollup_1m_20260118_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.edge_rollup_1m_other
    ADD CONSTRAINT edge_rollup_1m_other_pkey PRIMARY KEY (edge_id, minute);
ALTER TABLE ONLY public.finding
    ADD CONSTRAINT finding_pkey PRIMARY KEY (finding_id);
ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_content_id_key UNIQUE (content_id);
ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.label_set
    ADD CONSTRAINT label_set_pkey PRIMARY KEY (label_set_id);
ALTER TABLE ONLY public.latency_layout
    ADD CONSTRAINT latency_layout_pkey PRIMARY KEY (layout_id);
ALTER TABLE ONLY public.mesh_resource
    ADD CONSTRAINT mesh_resource_pkey PRIMARY KEY (resource, seen_at);
ALTER TABLE ONLY public.metric
    ADD CONSTRAINT metric_name_key UNIQUE (name);
ALTER TABLE ONLY public.metric
    ADD CONSTRAINT metric_pkey PRIMARY KEY (metric_id);
ALTER TABLE ONLY public.notification
    ADD CONSTRAINT notification_dedup_key_key UNIQUE (dedup_key);
ALTER TABLE ONLY public.notification
    ADD CONSTRAINT notification_pkey PRIMARY KEY (notification_id);
ALTER TABLE ONLY public.notify_log
    ADD CONSTRAINT notify_log_pkey PRIMARY KEY (group_key, receiver);
ALTER TABLE ONLY public.outcome
    ADD CONSTRAINT outcome_pkey PRIMARY KEY (outcome_id);
ALTER TABLE ONLY public.progress
    ADD CONSTRAINT progress_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.remote_write_place
    ADD CONSTRAINT remote_write_place_pkey PRIMARY KEY (remote);
ALTER TABLE ONLY public.scrape_settings
    ADD CONSTRAINT scrape_settings_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY public.series
    ADD CONSTRAINT series_pkey PRIMARY KEY (series_id);
ALTER TABLE ONLY public.silence
    ADD CONSTRAINT silence_pkey PRIMARY KEY (silence_id);
ALTER TABLE ONLY public.span_batch
    ADD CONSTRAINT span_batch_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.span_batch_20260115
    ADD CONSTRAINT span_batch_20260115_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.span_batch_20260116
    ADD CONSTRAINT span_batch_20260116_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.span_batch_20260117
    ADD CONSTRAINT span_batch_20260117_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.span_batch_20260118
    ADD CONSTRAINT span_batch_20260118_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.span_batch_other
    ADD CONSTRAINT span_batch_other_pkey PRIMARY KEY (batch_id, from_at);
ALTER TABLE ONLY public.trace_part
    ADD CONSTRAINT trace_part_pkey PRIMARY KEY (trace_id, start_at, batch_id);
ALTER TABLE ONLY public.trace_part_20260115
    ADD CONSTRAINT trace_part_20260115_pkey PRIMARY KEY (trace_id, start_at, batch_id);
ALTER TABLE ONLY public.trace_part_20260116
    ADD CONSTRAINT trace_part_20260116_pkey PRIMARY KEY (trace_id, start_at, batch_id);
ALTER TABLE ONLY public.trace_part_20260117
    ADD CONSTRAINT trace_part_20260117_pkey PRIMARY KEY (trace_id, start_at, batch_id);
ALTER TABLE ONLY public.trace_part_20260118
    ADD CONSTRAINT trace_part_20260118_pkey PRIMARY KEY (trace_id, start_at, batch_id);
ALTER TABLE ONLY public.trace_part_other
    ADD CONSTRAINT trace_part_other_pkey PRIMARY KEY (trace_id, start_at, batch_id);
CREATE INDEX alert_event_by_name ON ONLY public.alert_event USING btree (alertname, at);
CREATE INDEX alert_event_20260107_alertname_at_idx ON public.alert_event_20260107 USING btree (alertname, at);
CREATE INDEX alert_event_by_fingerprint ON ONLY public.alert_event USING btree (fingerprint, at);
CREATE INDEX alert_event_20260107_fingerprint_at_idx ON public.alert_event_20260107 USING btree (fingerprint, at);
CREATE INDEX alert_event_other_by_name ON public.alert_event_other USING btree (alertname, at);
CREATE INDEX alert_event_other_fingerprint_at_idx ON public.alert_event_other USING btree (fingerprint, at);
CREATE INDEX edge_rollup_1h_by_hour ON ONLY public.edge_rollup_1h USING btree (hour);
CREATE INDEX edge_rollup_1h_20260107_hour_idx ON public.edge_rollup_1h_20260107 USING btree (hour);
CREATE INDEX edge_rollup_1h_other_hour_idx ON public.edge_rollup_1h_other USING btree (hour);
CREATE INDEX edge_rollup_1m_by_minute ON ONLY public.edge_rollup_1m USING btree (minute);
CREATE INDEX edge_rollup_1m_20260115_minute_idx ON public.edge_rollup_1m_20260115 USING btree (minute);
CREATE INDEX edge_rollup_1m_20260116_minute_idx ON public.edge_rollup_1m_20260116 USING btree (minute);
CREATE INDEX edge_rollup_1m_20260117_minute_idx ON public.edge_rollup_1m_20260117 USING btree (minute);
CREATE INDEX edge_rollup_1m_20260118_minute_idx ON public.edge_rollup_1m_20260118 USING btree (minute);
CREATE INDEX edge_rollup_1m_other_minute_idx ON public.edge_rollup_1m_other USING btree (minute);
CREATE INDEX finding_by_time ON public.finding USING btree (first_seen_at);
CREATE UNIQUE INDEX finding_open ON public.finding USING btree (code, md5(subject), md5(message)) WHERE (gone_at IS NULL);
CREATE INDEX label_set_by_label ON public.label_set USING gin (labels jsonb_path_ops);
CREATE INDEX mesh_resource_by_time ON public.mesh_resource USING btree (seen_at);
CREATE INDEX notification_by_alert ON public.notification USING gin (told jsonb_path_ops);
CREATE INDEX notification_by_receiver ON public.notification USING btree (receiver, notification_id);
CREATE INDEX notification_by_time ON public.notification USING btree (created_at);
CREATE INDEX notification_pending ON public.notification USING btree (next_attempt_at) WHERE ((sent_at IS NULL) AND (given_up_at IS NULL));
CREATE INDEX series_by_metric ON public.series USING btree (metric_id, label_set_id);
CREATE INDEX trace_part_by_content ON ONLY public.trace_part USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_20260115_services_operations_attribute_hashes_idx ON public.trace_part_20260115 USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_by_start ON ONLY public.trace_part USING btree (start_at);
CREATE INDEX trace_part_20260115_start_at_idx ON public.trace_part_20260115 USING btree (start_at);
CREATE INDEX trace_part_by_error ON ONLY public.trace_part USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_20260115_start_at_idx1 ON public.trace_part_20260115 USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_by_duration ON ONLY public.trace_part USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
CREATE INDEX trace_part_20260115_width_bucket_start_at_idx ON public.trace_part_20260115 USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
CREATE INDEX trace_part_20260116_services_operations_attribute_hashes_idx ON public.trace_part_20260116 USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_20260116_start_at_idx ON public.trace_part_20260116 USING btree (start_at);
CREATE INDEX trace_part_20260116_start_at_idx1 ON public.trace_part_20260116 USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_20260116_width_bucket_start_at_idx ON public.trace_part_20260116 USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
CREATE INDEX trace_part_20260117_services_operations_attribute_hashes_idx ON public.trace_part_20260117 USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_20260117_start_at_idx ON public.trace_part_20260117 USING btree (start_at);
CREATE INDEX trace_part_20260117_start_at_idx1 ON public.trace_part_20260117 USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_20260117_width_bucket_start_at_idx ON public.trace_part_20260117 USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
CREATE INDEX trace_part_20260118_services_operations_attribute_hashes_idx ON public.trace_part_20260118 USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_20260118_start_at_idx ON public.trace_part_20260118 USING btree (start_at);
CREATE INDEX trace_part_20260118_start_at_idx1 ON public.trace_part_20260118 USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_20260118_width_bucket_start_at_idx ON public.trace_part_20260118 USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
CREATE INDEX trace_part_other_services_operations_attribute_hashes_idx ON public.trace_part_other USING gin (services, operations, attribute_hashes);
CREATE INDEX trace_part_other_start_at_idx ON public.trace_part_other USING btree (start_at);
CREATE INDEX trace_part_other_start_at_idx1 ON public.trace_part_other USING btree (start_at) WHERE (error_count > 0);
CREATE INDEX trace_part_other_width_bucket_start_at_idx ON public.trace_part_other USING btree (width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]), start_at);
ALTER INDEX public.alert_event_by_name ATTACH PARTITION public.alert_event_20260107_alertname_at_idx;
ALTER INDEX public.alert_event_by_fingerprint ATTACH PARTITION public.alert_event_20260107_fingerprint_at_idx;
ALTER INDEX public.alert_event_pkey ATTACH PARTITION public.alert_event_20260107_pkey;
ALTER INDEX public.alert_event_by_name ATTACH PARTITION public.alert_event_other_by_name;
ALTER INDEX public.alert_event_by_fingerprint ATTACH PARTITION public.alert_event_other_fingerprint_at_idx;
ALTER INDEX public.alert_event_pkey ATTACH PARTITION public.alert_event_other_pkey;
ALTER INDEX public.chunk_5m_pkey ATTACH PARTITION public.chunk_5m_20260107_pkey;
ALTER INDEX public.chunk_5m_pkey ATTACH PARTITION public.chunk_5m_other_pkey;
ALTER INDEX public.chunk_raw_pkey ATTACH PARTITION public.chunk_raw_20260115_pkey;
ALTER INDEX public.chunk_raw_pkey ATTACH PARTITION public.chunk_raw_20260116_pkey;
ALTER INDEX public.chunk_raw_pkey ATTACH PARTITION public.chunk_raw_20260117_pkey;
ALTER INDEX public.chunk_raw_pkey ATTACH PARTITION public.chunk_raw_20260118_pkey;
ALTER INDEX public.chunk_raw_pkey ATTACH PARTITION public.chunk_raw_other_pkey;
ALTER INDEX public.edge_rollup_1h_by_hour ATTACH PARTITION public.edge_rollup_1h_20260107_hour_idx;
ALTER INDEX public.edge_rollup_1h_pkey ATTACH PARTITION public.edge_rollup_1h_20260107_pkey;
ALTER INDEX public.edge_rollup_1h_by_hour ATTACH PARTITION public.edge_rollup_1h_other_hour_idx;
ALTER INDEX public.edge_rollup_1h_pkey ATTACH PARTITION public.edge_rollup_1h_other_pkey;
ALTER INDEX public.edge_rollup_1m_by_minute ATTACH PARTITION public.edge_rollup_1m_20260115_minute_idx;
ALTER INDEX public.edge_rollup_1m_pkey ATTACH PARTITION public.edge_rollup_1m_20260115_pkey;
ALTER INDEX public.edge_rollup_1m_by_minute ATTACH PARTITION public.edge_rollup_1m_20260116_minute_idx;
ALTER INDEX public.edge_rollup_1m_pkey ATTACH PARTITION public.edge_rollup_1m_20260116_pkey;
ALTER INDEX public.edge_rollup_1m_by_minute ATTACH PARTITION public.edge_rollup_1m_20260117_minute_idx;
ALTER INDEX public.edge_rollup_1m_pkey ATTACH PARTITION public.edge_rollup_1m_20260117_pkey;
ALTER INDEX public.edge_rollup_1m_by_minute ATTACH PARTITION public.edge_rollup_1m_20260118_minute_idx;
ALTER INDEX public.edge_rollup_1m_pkey ATTACH PARTITION public.edge_rollup_1m_20260118_pkey;
ALTER INDEX public.edge_rollup_1m_by_minute ATTACH PARTITION public.edge_rollup_1m_other_minute_idx;
ALTER INDEX public.edge_rollup_1m_pkey ATTACH PARTITION public.edge_rollup_1m_other_pkey;
ALTER INDEX public.span_batch_pkey ATTACH PARTITION public.span_batch_20260115_pkey;
ALTER INDEX public.span_batch_pkey ATTACH PARTITION public.span_batch_20260116_pkey;
ALTER INDEX public.span_batch_pkey ATTACH PARTITION public.span_batch_20260117_pkey;
ALTER INDEX public.span_batch_pkey ATTACH PARTITION public.span_batch_20260118_pkey;
ALTER INDEX public.span_batch_pkey ATTACH PARTITION public.span_batch_other_pkey;
ALTER INDEX public.trace_part_pkey ATTACH PARTITION public.trace_part_20260115_pkey;
ALTER INDEX public.trace_part_by_content ATTACH PARTITION public.trace_part_20260115_services_operations_attribute_hashes_idx;
ALTER INDEX public.trace_part_by_start ATTACH PARTITION public.trace_part_20260115_start_at_idx;
ALTER INDEX public.trace_part_by_error ATTACH PARTITION public.trace_part_20260115_start_at_idx1;
ALTER INDEX public.trace_part_by_duration ATTACH PARTITION public.trace_part_20260115_width_bucket_start_at_idx;
ALTER INDEX public.trace_part_pkey ATTACH PARTITION public.trace_part_20260116_pkey;
ALTER INDEX public.trace_part_by_content ATTACH PARTITION public.trace_part_20260116_services_operations_attribute_hashes_idx;
ALTER INDEX public.trace_part_by_start ATTACH PARTITION public.trace_part_20260116_start_at_idx;
ALTER INDEX public.trace_part_by_error ATTACH PARTITION public.trace_part_20260116_start_at_idx1;
ALTER INDEX public.trace_part_by_duration ATTACH PARTITION public.trace_part_20260116_width_bucket_start_at_idx;
ALTER INDEX public.trace_part_pkey ATTACH PARTITION public.trace_part_20260117_pkey;
ALTER INDEX public.trace_part_by_content ATTACH PARTITION public.trace_part_20260117_services_operations_attribute_hashes_idx;
ALTER INDEX public.trace_part_by_start ATTACH PARTITION public.trace_part_20260117_start_at_idx;
ALTER INDEX public.trace_part_by_error ATTACH PARTITION public.trace_part_20260117_start_at_idx1;
ALTER INDEX public.trace_part_by_duration ATTACH PARTITION public.trace_part_20260117_width_bucket_start_at_idx;
ALTER INDEX public.trace_part_pkey ATTACH PARTITION public.trace_part_20260118_pkey;
ALTER INDEX public.trace_part_by_content ATTACH PARTITION public.trace_part_20260118_services_operations_attribute_hashes_idx;
ALTER INDEX public.trace_part_by_start ATTACH PARTITION public.trace_part_20260118_start_at_idx;
ALTER INDEX public.trace_part_by_error ATTACH PARTITION public.trace_part_20260118_start_at_idx1;
ALTER INDEX public.trace_part_by_duration ATTACH PARTITION public.trace_part_20260118_width_bucket_start_at_idx;
ALTER INDEX public.trace_part_pkey ATTACH PARTITION public.trace_part_other_pkey;
ALTER INDEX public.trace_part_by_content ATTACH PARTITION public.trace_part_other_services_operations_attribute_hashes_idx;
ALTER INDEX public.trace_part_by_start ATTACH PARTITION public.trace_part_other_start_at_idx;
ALTER INDEX public.trace_part_by_error ATTACH PARTITION public.trace_part_other_start_at_idx1;
ALTER INDEX public.trace_part_by_duration ATTACH PARTITION public.trace_part_other_width_bucket_start_at_idx;
