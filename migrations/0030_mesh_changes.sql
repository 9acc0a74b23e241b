-- The change timeline: each generation of a resource says how it differs from the one before, who wrote it, and what it did
-- to the traffic.
ALTER TABLE mesh_resource
    -- Our own count of a resource's generations, from 1.
    ADD COLUMN revision   bigint NOT NULL DEFAULT 1,
    -- `metadata.generation`; null: no cluster counts.
    ADD COLUMN generation bigint,
    -- `cluster` or `files`.
    ADD COLUMN origin     text NOT NULL DEFAULT 'cluster',
    -- `first` (it was there when meshscope first looked), `created`, `changed`, `deleted`.
    ADD COLUMN action     text NOT NULL DEFAULT 'first',
    ADD COLUMN writer     text,
    -- Fields before and after: {"fields": [{"path", "before", "after"}], "left_out": 0}.
    ADD COLUMN fields     jsonb,
    -- What it did to the traffic; null: not judged.
    ADD COLUMN effects    jsonb;

-- Most rows of a new installation are first sights, which no timeline shows.
CREATE INDEX mesh_resource_changes ON mesh_resource (seen_at, resource) WHERE action <> 'first';
