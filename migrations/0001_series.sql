-- Samples: which series there are, the journal of what was just accepted, and the chunks of closed windows.
--
-- Names of series repeat their labels: the 20 buckets and the counters of one edge share all labels but the name and
-- `le`. A label set is therefore stored once, and a series is its name, its `le` and the id of the set. Ids are hashes
-- of what they name, so that two writers give the same thing the same id.

-- How far recurring work has got: `chunked_until`, `rolled_hours_until`.
CREATE TABLE progress (
    name text PRIMARY KEY,
    at   timestamptz NOT NULL
);

CREATE TABLE label_set (
    label_set_id bigint PRIMARY KEY,
    labels       jsonb NOT NULL
);
CREATE INDEX label_set_by_label ON label_set USING gin (labels jsonb_path_ops);

CREATE TABLE metric (
    metric_id bigint PRIMARY KEY,
    name      text NOT NULL UNIQUE
);

CREATE TABLE series (
    series_id    bigint PRIMARY KEY,
    metric_id    bigint NOT NULL,
    label_set_id bigint NOT NULL,
    le           text,
    -- The last day that has a chunk of it; a series whose chunks are all gone is deleted.
    last_day     date NOT NULL
);
CREATE INDEX series_by_metric ON series (metric_id, label_set_id);

CREATE TABLE journal (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Hash of the bytes: an entry written twice is one row.
    content_id   bigint NOT NULL UNIQUE,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    sample_count bigint NOT NULL,
    -- Whether it can be read without the entries before it; only what is before such an entry may be deleted.
    starts_epoch boolean NOT NULL,
    bytes        bytea NOT NULL
);
ALTER TABLE journal ALTER bytes SET STORAGE EXTERNAL;

CREATE TABLE chunk_raw (
    series_id    bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    sample_count integer NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (series_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE chunk_raw ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE chunk_raw_other PARTITION OF chunk_raw DEFAULT;

CREATE TABLE chunk_5m (
    series_id    bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    sample_count integer NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (series_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE chunk_5m ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE chunk_5m_other PARTITION OF chunk_5m DEFAULT;
