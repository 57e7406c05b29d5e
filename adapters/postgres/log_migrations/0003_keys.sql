-- What must be unique: the place in a stream, which for touchpoints is (source, id), their event id
-- being made of the two. It stands apart from the log, so that the log can be partitioned by position.

CREATE TABLE keys (
    stream       uuid   NOT NULL,
    version      bigint NOT NULL,
    position     bigint NOT NULL,
    payload_hash uuid,
    CONSTRAINT keys_pkey PRIMARY KEY (stream, version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

COMMENT ON TABLE  keys              IS 'Uniqueness of (stream, version), and so of (source, id); finds an event by its id.';
COMMENT ON COLUMN keys.position     IS 'Where the event stands in the log.';
COMMENT ON COLUMN keys.payload_hash IS 'Keyed BLAKE2b-128 of the payload as its source sent it; tells a repeat from a conflict. Null for rows of the library''s raw path.';
