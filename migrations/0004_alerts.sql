-- Alerts: their state across restarts, the history of their transitions, and what people were told.

CREATE TABLE alert_state (
    group_name         text NOT NULL,
    fingerprint        bigint NOT NULL,
    labels             jsonb NOT NULL,
    annotations        jsonb NOT NULL,
    state              text NOT NULL,
    value              double precision NOT NULL,
    active_at          timestamptz NOT NULL,
    fired_at           timestamptz,
    resolved_at        timestamptz,
    keep_firing_since  timestamptz,
    valid_until        timestamptz NOT NULL,
    generator_url      text NOT NULL,
    PRIMARY KEY (group_name, fingerprint)
);

CREATE TABLE alert_event (
    at          timestamptz NOT NULL,
    fingerprint bigint NOT NULL,
    group_name  text NOT NULL,
    to_state    text NOT NULL,
    from_state  text NOT NULL,
    alertname   text NOT NULL,
    labels      jsonb NOT NULL,
    annotations jsonb NOT NULL,
    value       double precision NOT NULL,
    -- What an alert became at one time: a transition written twice is one row.
    PRIMARY KEY (at, fingerprint, group_name, to_state)
);
CREATE INDEX alert_event_by_name ON alert_event (alertname, at);

-- The outbox: a notification is here before it is sent.
CREATE TABLE notification (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What makes it one notification; inserting it again changes nothing.
    dedup_key       text NOT NULL UNIQUE,
    receiver        text NOT NULL,
    integration     text NOT NULL,
    group_key       text NOT NULL,
    payload         jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    next_attempt_at timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    sent_at         timestamptz,
    given_up_at     timestamptz,
    last_error      text
);
CREATE INDEX notification_pending ON notification (next_attempt_at) WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX notification_by_time ON notification (created_at);

CREATE TABLE silence (
    silence_id text PRIMARY KEY,
    matchers   jsonb NOT NULL,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    created_by text NOT NULL,
    comment    text NOT NULL,
    updated_at timestamptz NOT NULL
);

-- Of each group and receiver, what was last told: this is what keeps a restart from telling it again.
CREATE TABLE notify_log (
    group_key       text NOT NULL,
    receiver        text NOT NULL,
    sent_at         timestamptz NOT NULL,
    firing_hashes   bigint[] NOT NULL,
    resolved_hashes bigint[] NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (group_key, receiver)
);
