-- One index row for each batch of spans, in place of one for each trace in each batch: a third of the bytes, and a third of
-- the work of writing. A batch is found by one index of keys (src/model/span_key.rs); what it has of each trace stands in
-- arrays, one element a trace, which are opened only then.

ALTER TABLE span_batch RENAME COLUMN from_at TO last_at;
ALTER TABLE span_batch RENAME COLUMN to_at TO first_at;
ALTER TABLE span_batch DROP CONSTRAINT span_batch_pkey;
ALTER TABLE span_batch ADD PRIMARY KEY (last_at, batch_id);
ALTER TABLE span_batch
    ADD COLUMN keys bigint[] NOT NULL DEFAULT '{}',
    -- Names that the places below count from 1; 0 is none.
    ADD COLUMN services text[] NOT NULL DEFAULT '{}',
    ADD COLUMN operations text[] NOT NULL DEFAULT '{}',
    -- 16 bytes each.
    ADD COLUMN trace_ids bytea NOT NULL DEFAULT '',
    ADD COLUMN start_ns bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN end_ns bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN longest_ns bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN span_counts integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN error_counts integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN root_services integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN root_names integer[] NOT NULL DEFAULT '{}',
    -- Places of all traces, one after the other, and for each trace where its own end.
    ADD COLUMN service_places integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN service_ends integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN operation_places integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN operation_ends integer[] NOT NULL DEFAULT '{}';

-- What nothing can compress is not tried.
ALTER TABLE span_batch ALTER keys SET STORAGE EXTERNAL, ALTER trace_ids SET STORAGE EXTERNAL;
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'span_batch'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ALTER keys SET STORAGE EXTERNAL, ALTER trace_ids SET STORAGE EXTERNAL', part);
    END LOOP;
END $$;

-- The batches that are there, from the rows of their traces. The key of a text is computed as `span_key::of_attribute` does.
CREATE FUNCTION pg_temp.times(a bigint, b numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT (CASE WHEN p >= 9223372036854775808 THEN p - 18446744073709551616 ELSE p END)::bigint
    FROM (SELECT mod((CASE WHEN a < 0 THEN a + 18446744073709551616 ELSE a END) * b, 18446744073709551616) AS p) product
$$;
CREATE FUNCTION pg_temp.folded(h bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT h # ((h >> 33) & 2147483647)
$$;
CREATE FUNCTION pg_temp.key_of(name text, value text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    bytes bytea := convert_to(name, 'UTF8') || '\x00'::bytea || convert_to(value, 'UTF8');
    h bigint := -3750763034362895579;
BEGIN
    FOR i IN 0..length(bytes) - 1 LOOP
        h := pg_temp.times(h # get_byte(bytes, i), 1099511628211);
    END LOOP;
    h := pg_temp.times(pg_temp.folded(h), 18397679294719823053);
    h := pg_temp.times(pg_temp.folded(h), 14181476777654086739);
    RETURN pg_temp.folded(h);
END $$;

CREATE TEMP TABLE own ON COMMIT DROP AS
SELECT p.*, row_number() OVER earlier AS place,
       (sum(cardinality(services)) OVER earlier)::integer AS service_end,
       (sum(cardinality(operations)) OVER earlier)::integer AS operation_end,
       ':slow ' || width_bucket(longest_ns, '{100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]) AS slow
FROM trace_part p
WINDOW earlier AS (PARTITION BY batch_id, batch_at ORDER BY start_at, trace_id);
CREATE INDEX ON own (batch_id, batch_at, place);

CREATE TEMP TABLE name ON COMMIT DROP AS
SELECT batch_id, batch_at,
       array_agg(DISTINCT service COLLATE "C") AS services, array_agg(DISTINCT operation COLLATE "C") AS operations
FROM (SELECT batch_id, batch_at, unnest(services || root_service) AS service, NULL::text AS operation FROM own
      UNION SELECT batch_id, batch_at, NULL, unnest(operations || root_name) FROM own) AS each
GROUP BY batch_id, batch_at;
UPDATE name SET services = array_remove(services, NULL), operations = array_remove(operations, NULL);

CREATE TEMP TABLE name_key ON COMMIT DROP AS
SELECT what, name, pg_temp.key_of(what, name) AS key
FROM (SELECT ':service', unnest(services) FROM name
      UNION SELECT ':operation', unnest(operations) FROM name
      UNION SELECT ':error', unnest(services || ''::text) FROM own WHERE error_count > 0
      UNION SELECT slow, unnest(services || ''::text) FROM own WHERE slow <> ':slow 0') AS text(what, name);

UPDATE span_batch b
SET (first_at, trace_ids, start_ns, end_ns, longest_ns, span_counts, error_counts, root_services, root_names,
     service_ends, operation_ends) = (
        SELECT min(start_at), string_agg(uuid_send(trace_id), ''::bytea ORDER BY place),
               array_agg(start_ns ORDER BY place), array_agg(end_ns ORDER BY place), array_agg(longest_ns ORDER BY place),
               array_agg(span_count ORDER BY place), array_agg(error_count ORDER BY place),
               array_agg(coalesce(array_position(n.services, root_service), 0) ORDER BY place),
               array_agg(coalesce(array_position(n.operations, root_name), 0) ORDER BY place),
               array_agg(service_end ORDER BY place), array_agg(operation_end ORDER BY place)
        FROM own WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at),
    services = n.services,
    operations = n.operations,
    service_places = ARRAY(
        SELECT array_position(n.services, s) FROM own, unnest(own.services) AS s
        WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at ORDER BY place, s COLLATE "C"),
    operation_places = ARRAY(
        SELECT array_position(n.operations, o) FROM own, unnest(own.operations) AS o
        WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at ORDER BY place, o COLLATE "C"),
    keys = ARRAY(
        SELECT key FROM name_key WHERE what = ':service' AND name_key.name = ANY (n.services)
        UNION SELECT key FROM name_key WHERE what = ':operation' AND name_key.name = ANY (n.operations)
        UNION SELECT key FROM own CROSS JOIN unnest(own.services || ''::text) AS s
        JOIN name_key ON name_key.name = s AND (what = own.slow OR what = ':error' AND own.error_count > 0)
        WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at
        UNION SELECT unnest(attribute_hashes) FROM own WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at
        UNION SELECT ('x' || substr(id, 1, 16))::bit(64)::bigint # ('x' || substr(id, 17))::bit(64)::bigint
        FROM own, LATERAL (SELECT replace(own.trace_id::text, '-', '') AS id) AS hex
        WHERE own.batch_id = b.batch_id AND own.batch_at = b.last_at
        ORDER BY 1)
FROM name n
WHERE n.batch_id = b.batch_id AND n.batch_at = b.last_at;

CREATE INDEX span_batch_by_key ON span_batch USING gin (keys);
DROP FUNCTION pg_temp.key_of(text, text);
DROP FUNCTION pg_temp.folded(bigint);
DROP FUNCTION pg_temp.times(bigint, numeric);

-- One row for each trace and batch. `batch_at` is the last start in the batch: a condition on it spares reading the others.
-- The view is replaced, not made anew, since roles may read it.
CREATE OR REPLACE VIEW span_search AS
SELECT encode(substr(b.trace_ids, 16 * t.place - 15, 16), 'hex') AS trace_id,
       -- A clock that is days behind does not take a trace to where all is past its retention.
       CASE WHEN last_at - started.at > interval '1 day' THEN last_at ELSE started.at END AS start_at,
       (t.end_ns - t.start_ns) / 1e6 AS duration_ms, t.span_count, t.error_count, t.longest_ns / 1e6 AS longest_ms,
       b.services[nullif(t.root_service, 0)] AS root_service, b.operations[nullif(t.root_name, 0)] AS root_name,
       ARRAY(SELECT b.services[s] FROM unnest(b.service_places[t.service_from + 1:t.service_end]) AS s) AS services,
       ARRAY(SELECT b.operations[o] FROM unnest(b.operation_places[t.operation_from + 1:t.operation_end]) AS o) AS operations,
       last_at AS batch_at
FROM span_batch
CROSS JOIN LATERAL (
    -- A concatenation is read from its table once, not once for each trace.
    SELECT trace_ids || ''::bytea AS trace_ids, services || '{}' AS services, operations || '{}' AS operations,
           service_places || '{}' AS service_places, operation_places || '{}' AS operation_places
    OFFSET 0
) AS b
CROSS JOIN LATERAL (
    SELECT every.*, place.place, coalesce(lag(service_end) OVER by_place, 0) AS service_from,
           coalesce(lag(operation_end) OVER by_place, 0) AS operation_from
    FROM unnest(start_ns, end_ns, span_counts, error_counts, longest_ns, root_services, root_names, service_ends,
                operation_ends) WITH ORDINALITY
         AS every(start_ns, end_ns, span_count, error_count, longest_ns, root_service, root_name, service_end,
                  operation_end, number),
         LATERAL (SELECT number::integer AS place) AS place
    WINDOW by_place AS (ORDER BY number)
) AS t
CROSS JOIN LATERAL (SELECT timestamptz 'epoch' + t.start_ns / 1000 * interval '1 microsecond' AS at) AS started;

DROP TABLE trace_part;
