INSERT INTO silence (silence_id, matchers, starts_at, ends_at, created_by, comment, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (silence_id) DO UPDATE
SET matchers = excluded.matchers, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    created_by = excluded.created_by, comment = excluded.comment, updated_at = excluded.updated_at
WHERE silence.updated_at <= excluded.updated_at
