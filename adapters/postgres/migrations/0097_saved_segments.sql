-- saved_segments: segments kept under a name, every version of them.

CREATE TABLE saved_segments (
    name     text        COLLATE "C" NOT NULL,
    version  int         NOT NULL,
    segment  jsonb       NOT NULL,
    saved_by text        NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

COMMENT ON TABLE  saved_segments         IS 'Segments kept under a name; a changed one is a new version, none is ever overwritten.';
COMMENT ON COLUMN saved_segments.segment IS 'Its rules as they were written.';
COMMENT ON COLUMN saved_segments.saved_by IS 'Id of the key that saved it.';

GRANT SELECT, INSERT ON saved_segments TO touchlog_app;
