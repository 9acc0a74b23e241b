-- The update changes nothing; it is there so that the row's id is returned whether or not it is new.
INSERT INTO notification (dedup_key, receiver, integration, group_key, payload, created_at, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, $6, $6)
ON CONFLICT (dedup_key) DO UPDATE SET dedup_key = excluded.dedup_key
RETURNING notification_id
