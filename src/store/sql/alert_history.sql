SELECT at, group_name, labels, annotations, from_state, to_state, value
FROM alert_event
WHERE at BETWEEN $1 AND $2
  AND ($3::bigint IS NULL OR fingerprint = $3)
  AND ($4::text IS NULL OR to_state = $4)
  AND ($5::jsonb IS NULL OR labels @> $5)
  AND ($6::timestamptz IS NULL OR (at, fingerprint, group_name, to_state) < ($6, $7, $8, $9))
ORDER BY at DESC, fingerprint DESC, group_name DESC, to_state DESC
LIMIT $10
