-- Sums of all edges over a minute, five minutes, an hour or a day, each as one value: what the graph of a range is added
-- up from without reading a row for each edge and minute.
--
-- A pack says what its rows of edge_rollup_1m or edge_rollup_1h say, by the same ids. It is made once they are complete,
-- and deleted in the transaction that writes one of them again; where there is none, the rows are read. Nothing is lost
-- with a pack.
CREATE TABLE edge_pack (
    seconds integer NOT NULL,
    start   timestamptz NOT NULL,
    edges   bytea NOT NULL,
    PRIMARY KEY (seconds, start)
);
-- They are compressed already.
ALTER TABLE edge_pack ALTER COLUMN edges SET STORAGE EXTERNAL;
