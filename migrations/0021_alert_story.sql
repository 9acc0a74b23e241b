-- Alert history in partitions, so that retention drops tables instead of deleting rows, and what the story of one alert
-- asks for. The rows stay where they are: the old table becomes the default partition, out of which maintenance moves them.

ALTER TABLE alert_event RENAME TO alert_event_other;
ALTER INDEX alert_event_pkey RENAME TO alert_event_other_pkey;
ALTER INDEX alert_event_by_name RENAME TO alert_event_other_by_name;
CREATE TABLE alert_event (LIKE alert_event_other INCLUDING DEFAULTS INCLUDING STORAGE) PARTITION BY RANGE (at);
ALTER TABLE alert_event ATTACH PARTITION alert_event_other DEFAULT;
ALTER TABLE alert_event ADD PRIMARY KEY (at, fingerprint, group_name, to_state);
CREATE INDEX alert_event_by_name ON alert_event (alertname, at);
CREATE INDEX alert_event_by_fingerprint ON alert_event (fingerprint, at);

-- Which notifications told of an alert: told @> '{"firing": ["0123456789abcdef"]}'.
CREATE INDEX notification_by_alert ON notification USING gin (told jsonb_path_ops);
CREATE INDEX notification_by_receiver ON notification (receiver, notification_id);
