-- Traces are found by what is in them, newest first, without reading every index row.

-- One index for any combination: of services, operations and attributes it reads only what is asked for.
DROP INDEX trace_part_by_service;
CREATE INDEX trace_part_by_content ON trace_part USING gin (services, operations, attribute_hashes);

CREATE INDEX trace_part_by_error ON trace_part (start_at) WHERE error_count > 0;

-- By class of the longest span, so that the newest slow ones are read in order of time from each class that can hold them.
-- The query names the same expression (src/store/spans/search.rs).
CREATE INDEX trace_part_by_duration ON trace_part (
    width_bucket(longest_ns, '{10000000,30000000,100000000,300000000,1000000000,3000000000,10000000000,30000000000}'::bigint[]),
    start_at
);
