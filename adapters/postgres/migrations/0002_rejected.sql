-- Rejected: what could not be recorded, kept sealed with its reasons, to be looked at and tried again.
-- A conflict (a known key with another payload) is kept here too.

CREATE TABLE rejected (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status      text        NOT NULL CHECK (status IN ('rejected', 'conflict')),
    state       text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'recorded', 'duplicate', 'dismissed')),
    source      text        COLLATE "C",
    source_id   text        COLLATE "C",
    type        text        COLLATE "C",
    way_in      text        NOT NULL,
    principal   text        NOT NULL,
    place       text,
    reasons     jsonb       NOT NULL,
    position    bigint,
    retried_at  timestamptz,
    key_subject uuid        NOT NULL,
    payload     bytea       NOT NULL,
    digest      bytea       NOT NULL UNIQUE
);
CREATE INDEX rejected_open ON rejected (id) WHERE state = 'open';

COMMENT ON TABLE  rejected             IS 'Payloads that were not recorded, sealed, with the reasons; listed, shown, corrected and tried again.';
COMMENT ON COLUMN rejected.state       IS 'open until a retry recorded it (or found it recorded), or it was dismissed.';
COMMENT ON COLUMN rejected.way_in      IS 'http, nats, or the name of the imported format.';
COMMENT ON COLUMN rejected.place       IS 'Where it stood: file and row, or place in the batch.';
COMMENT ON COLUMN rejected.reasons     IS 'What was wrong: list of {pointer, detail, code}; never the values.';
COMMENT ON COLUMN rejected.position    IS 'Of a conflict: the position of the event that holds the key; of a retried one: where it was recorded.';
COMMENT ON COLUMN rejected.key_subject IS 'The subject (of kind source_day) whose content key seals the payload.';
COMMENT ON COLUMN rejected.payload     IS 'The payload as it was sent, sealed; nonce first.';
COMMENT ON COLUMN rejected.digest      IS 'Keyed hash of source, payload and reasons: the same thing sent again is kept once.';
