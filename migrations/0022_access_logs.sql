-- Records of access logs, as compressed batches, and one narrow index row for each edge, code and reason in each batch.

CREATE TABLE access_log_batch (
    batch_id     bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    record_count integer NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (batch_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE access_log_batch ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE access_log_batch_other PARTITION OF access_log_batch DEFAULT;

CREATE TABLE access_log_part (
    batch_id     bigint NOT NULL,
    -- `access_log_batch.from_at`, so that the batch is found in its partition.
    batch_at     timestamptz NOT NULL,
    -- Its place among the rows of the batch.
    part         integer NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    -- `namespace/name`, the name alone, or empty where nothing is known.
    source       text NOT NULL,
    destination  text NOT NULL,
    service      text NOT NULL,
    code         integer NOT NULL,
    reason       text NOT NULL,
    record_count integer NOT NULL,
    trace_hashes bigint[] NOT NULL,
    PRIMARY KEY (batch_id, batch_at, part)
) PARTITION BY RANGE (batch_at);
CREATE INDEX access_log_part_by_time ON access_log_part (to_at);
CREATE INDEX access_log_part_by_reason ON access_log_part (reason, to_at);
CREATE INDEX access_log_part_by_trace ON access_log_part USING gin (trace_hashes);
CREATE TABLE access_log_part_other PARTITION OF access_log_part DEFAULT;
