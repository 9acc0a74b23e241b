(edge_id, hour) DO UPDATE
SET outcome_ids = excluded.outcome_ids, outcome_counts = excluded.outcome_counts,
    layout_id = excluded.layout_id, latency_counts = excluded.latency_counts, latency_sum_ms = excluded.latency_sum_ms,
    request_bytes = excluded.request_bytes, response_bytes = excluded.response_bytes,
    connections_closed = excluded.connections_closed,
    request_messages = excluded.request_messages,
    response_messages = excluded.response_messages
