INSERT INTO notify_log (group_key, receiver, sent_at, firing_hashes, resolved_hashes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (group_key, receiver) DO UPDATE
SET sent_at = excluded.sent_at, firing_hashes = excluded.firing_hashes, resolved_hashes = excluded.resolved_hashes,
    expires_at = excluded.expires_at
WHERE notify_log.sent_at <= excluded.sent_at
