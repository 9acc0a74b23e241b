-- One that is there already was asked for again: it is open once more, so that a crash does not lose it.
INSERT INTO notification (dedup_key, receiver, integration, group_key, kind, payload, body, told, created_at, next_attempt_at, subject)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
ON CONFLICT (dedup_key) DO UPDATE SET sent_at = NULL, given_up_at = NULL, next_attempt_at = excluded.next_attempt_at
RETURNING notification_id
