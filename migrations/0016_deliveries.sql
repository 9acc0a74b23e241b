-- Deliveries of every kind of receiver: what is sent, byte for byte, and what its receiver knows once it is delivered.

ALTER TABLE notification
    ADD COLUMN kind text NOT NULL DEFAULT 'webhook',
    -- Null in rows of versions that sent the payload itself.
    ADD COLUMN body text,
    -- {"firing": [fingerprints in hexadecimal], "resolved": [...], "at_ms": ...}; null in rows of earlier versions.
    ADD COLUMN told jsonb;
