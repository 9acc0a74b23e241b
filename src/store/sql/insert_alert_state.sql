INSERT INTO alert_state (group_name, fingerprint, labels, annotations, state, value, active_at, fired_at, resolved_at,
                         keep_firing_since, valid_until, generator_url)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
