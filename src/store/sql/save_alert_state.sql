INSERT INTO alert_state (group_name, fingerprint, labels, annotations, state, value, active_at, fired_at, resolved_at,
                         keep_firing_since, valid_until, generator_url)
SELECT group_name, fingerprint, labels, annotations, state, value::double precision, active_at, fired_at, resolved_at,
       keep_firing_since, valid_until, generator_url
FROM jsonb_to_recordset($1) AS given (
    group_name text, fingerprint bigint, labels jsonb, annotations jsonb, state text, value text, active_at timestamptz,
    fired_at timestamptz, resolved_at timestamptz, keep_firing_since timestamptz, valid_until timestamptz,
    generator_url text)
ON CONFLICT (group_name, fingerprint) DO UPDATE SET
    labels = excluded.labels, annotations = excluded.annotations, state = excluded.state, value = excluded.value,
    active_at = excluded.active_at, fired_at = excluded.fired_at, resolved_at = excluded.resolved_at,
    keep_firing_since = excluded.keep_firing_since, valid_until = excluded.valid_until,
    generator_url = excluded.generator_url
