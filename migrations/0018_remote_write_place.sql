-- Where each receiver of remote write stands in the journal: after the entry `seq`. A row each, a few in all.
CREATE TABLE remote_write_place (
    remote text PRIMARY KEY,
    seq    bigint NOT NULL
) WITH (fillfactor = 50);
