-- Records are found by who called and who was called, and by status, without walking through time.

-- A name is sought whole (`shop/cart`) and without its namespace (`cart`). The query names the same expressions
-- (src/store/access_logs.rs).
CREATE INDEX access_log_part_by_source ON access_log_part
    USING gin ((ARRAY[source, split_part(source, '/', 2)]));
CREATE INDEX access_log_part_by_called ON access_log_part
    USING gin ((ARRAY[destination, split_part(destination, '/', 2), service, split_part(service, '/', 2)]));
CREATE INDEX access_log_part_by_code ON access_log_part (code, to_at);
