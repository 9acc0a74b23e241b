-- Which meshscopes work on this database, and which of them writes.

CREATE TABLE leader (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Grows with each change of the leader. Each transaction in which the leader writes holds this row FOR KEY SHARE: that
    -- waits for a change of a column with a unique index, and so for the next leader, but not for the beats.
    epoch      bigint NOT NULL UNIQUE,
    replica_id text NOT NULL,
    -- The last beat by this server's clock; 'epoch' when the leader has ended in order.
    beat_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE replica (
    -- The sessions of a replica are named `meshscope ` and this.
    replica_id text PRIMARY KEY,
    name       text NOT NULL,
    host       text NOT NULL,
    web_port   integer NOT NULL,
    grpc_port  integer NOT NULL,
    http_port  integer NOT NULL,
    is_https   boolean NOT NULL,
    seen_at    timestamptz NOT NULL
) WITH (fillfactor = 50);
