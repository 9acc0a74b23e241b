SELECT notification_id, dedup_key, receiver, integration, kind, group_key, created_at, next_attempt_at, attempts,
       sent_at, given_up_at, left(last_error, 2000) AS last_error,
       CASE WHEN jsonb_typeof(told -> 'firing') = 'array' THEN jsonb_array_length(told -> 'firing') END AS firing,
       CASE WHEN jsonb_typeof(told -> 'resolved') = 'array' THEN jsonb_array_length(told -> 'resolved') END AS resolved
FROM notification
WHERE ($1::text IS NULL
       OR $1 = CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN given_up_at IS NOT NULL THEN 'failed' ELSE 'waiting' END)
  AND ($2::text IS NULL OR receiver = $2)
  AND ($3::jsonb IS NULL OR told @> $3 OR told @> $4)
  AND ($5::text IS NULL OR strpos(lower(coalesce(last_error, '')), $5) > 0 OR strpos(lower(group_key), $5) > 0
       -- Rows of earlier versions have no subject.
       OR strpos(coalesce(subject, lower(coalesce(body, payload::text))), $5) > 0)
  AND ($6::timestamptz IS NULL OR created_at >= $6)
  AND ($7::bigint IS NULL OR notification_id < $7)
ORDER BY notification_id DESC
LIMIT $8
