-- The log itself: one row an event, in position order, never changed.
-- `body` is the canonical JSON of every fact of the event; with the line that `position` and
-- `recorded_at` make, it is the entry that proofs hash. The other columns are derived from it.

CREATE TABLE events (
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    stream      uuid        NOT NULL,
    version     bigint      NOT NULL,
    type        text        COLLATE "C" NOT NULL,
    body        bytea       NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (position)
) WITH (
    -- Nothing is ever updated here: vacuum only freezes, and keeps the visibility map for readers.
    autovacuum_vacuum_insert_scale_factor = 0.05
);

ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;

COMMENT ON TABLE  events             IS 'All recorded events in one order; append-only.';
COMMENT ON COLUMN events.position    IS 'Place in the log: 1, 2, 3 … without gaps, in the order of commits.';
COMMENT ON COLUMN events.recorded_at IS 'When the log took it: one time a commit, strictly greater than every earlier commit''s.';
COMMENT ON COLUMN events.stream      IS 'The event id of a touchpoint (a stream of one), or the stream of a decision.';
COMMENT ON COLUMN events.version     IS 'Place within the stream; 1 for touchpoints.';
COMMENT ON COLUMN events.type        IS 'Stored name of the event.';
COMMENT ON COLUMN events.body        IS 'Canonical JSON (sorted keys) of every other fact; personal fields are sealed inside.';
