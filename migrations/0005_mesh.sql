-- What was declared for the mesh, generation by generation, and what was found wrong with it.

CREATE TABLE mesh_resource (
    -- `cluster/kind/namespace/name`
    resource     text NOT NULL,
    seen_at      timestamptz NOT NULL,
    kind         text NOT NULL,
    namespace    text,
    name         text NOT NULL,
    content_hash bigint NOT NULL,
    -- The resource as declared; null: deleted at that time.
    body         text,
    PRIMARY KEY (resource, seen_at)
);
CREATE INDEX mesh_resource_by_time ON mesh_resource (seen_at);

CREATE TABLE finding (
    finding_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code        text NOT NULL,
    severity    text NOT NULL,
    subject     text NOT NULL,
    line        integer,
    message     text NOT NULL,
    fix         text,
    first_seen_at timestamptz NOT NULL,
    -- When it was gone; null: it still holds.
    gone_at     timestamptz
);
-- The subject may be long; its hash keeps the index row short.
CREATE UNIQUE INDEX finding_open ON finding (code, md5(subject), md5(message)) WHERE gone_at IS NULL;
CREATE INDEX finding_by_time ON finding (first_seen_at);
