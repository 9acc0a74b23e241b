-- Spans, as compressed batches, and one narrow index row for each trace in each batch.

CREATE TABLE span_batch (
    batch_id   bigint NOT NULL,
    from_at    timestamptz NOT NULL,
    to_at      timestamptz NOT NULL,
    span_count integer NOT NULL,
    bytes      bytea NOT NULL,
    PRIMARY KEY (batch_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE span_batch ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE span_batch_other PARTITION OF span_batch DEFAULT;

CREATE TABLE trace_part (
    trace_id         uuid NOT NULL,
    start_at         timestamptz NOT NULL,
    batch_id         bigint NOT NULL,
    -- `span_batch.from_at`, so that the batch is found in its partition.
    batch_at         timestamptz NOT NULL,
    start_ns         bigint NOT NULL,
    end_ns           bigint NOT NULL,
    span_count       integer NOT NULL,
    error_count      integer NOT NULL,
    longest_ns       bigint NOT NULL,
    root_service     text,
    root_name        text,
    services         text[] NOT NULL,
    operations       text[] NOT NULL,
    attribute_hashes bigint[] NOT NULL,
    PRIMARY KEY (trace_id, start_at, batch_id)
) PARTITION BY RANGE (start_at);
CREATE INDEX trace_part_by_start ON trace_part (start_at);
CREATE INDEX trace_part_by_service ON trace_part USING gin (services);
CREATE TABLE trace_part_other PARTITION OF trace_part DEFAULT;
