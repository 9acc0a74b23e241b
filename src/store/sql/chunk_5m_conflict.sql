(label_set_id, from_at) DO UPDATE
SET to_at = excluded.to_at, sample_count = excluded.sample_count, bytes = excluded.bytes
