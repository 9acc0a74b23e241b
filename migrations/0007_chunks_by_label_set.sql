-- Chunks hold all series of one label set, not one series each: the buckets of one edge then share one row header, one
-- index entry and one column of times, and are compressed together. `from_at` is the start of the window (two hours of
-- `chunk_raw`, a day of `chunk_5m`), so that what comes late for a window finds its row.

-- The rows there are become members of new ones: version 1 of the bytes, which the next merge compresses.
CREATE TABLE chunk_raw_by_label_set AS
SELECT s.label_set_id, date_bin('2 hours', c.from_at, 'epoch'::timestamptz) AS from_at, max(c.to_at) AS to_at,
       sum(c.sample_count)::integer AS sample_count,
       '\x01'::bytea || string_agg(
           int4send(octet_length(m.name)) || convert_to(m.name, 'UTF8') ||
           int4send(coalesce(octet_length(s.le), 0)) || convert_to(coalesce(s.le, ''), 'UTF8') ||
           int4send(octet_length(c.bytes)) || c.bytes,
           ''::bytea ORDER BY m.name, s.le, c.from_at) AS bytes
FROM chunk_raw c
JOIN series s USING (series_id)
JOIN metric m USING (metric_id)
GROUP BY 1, 2;

DROP TABLE chunk_raw;
DROP TABLE chunk_5m; -- was never written

CREATE TABLE chunk_raw (
    label_set_id bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    sample_count integer NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (label_set_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE chunk_raw ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE chunk_raw_other PARTITION OF chunk_raw DEFAULT;

CREATE TABLE chunk_5m (
    label_set_id bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    sample_count integer NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (label_set_id, from_at)
) PARTITION BY RANGE (from_at);
ALTER TABLE chunk_5m ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE chunk_5m_other PARTITION OF chunk_5m DEFAULT;

INSERT INTO chunk_raw SELECT label_set_id, from_at, to_at, sample_count, bytes FROM chunk_raw_by_label_set;
DROP TABLE chunk_raw_by_label_set;

-- The last journal entry of which every sample for a closed window is in chunks (row `past_written`).
ALTER TABLE progress ADD COLUMN seq bigint NOT NULL DEFAULT 0;
