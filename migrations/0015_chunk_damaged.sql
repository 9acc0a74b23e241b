-- Chunks whose bytes could not be read when late samples were merged into them or their day was thinned. They are replaced
-- or passed over in their own table; here they stay as they were found, for whoever can mend them. No retention.
CREATE TABLE chunk_damaged (
    tier         text NOT NULL, -- chunk_raw or chunk_5m
    label_set_id bigint NOT NULL,
    from_at      timestamptz NOT NULL,
    found_at     timestamptz NOT NULL DEFAULT now(),
    to_at        timestamptz NOT NULL,
    sample_count integer NOT NULL,
    bytes        bytea NOT NULL,
    reason       text NOT NULL,
    PRIMARY KEY (label_set_id, tier, from_at, found_at)
);
