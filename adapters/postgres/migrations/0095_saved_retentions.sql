-- saved_retentions: questions of retention kept under a name, every version of them.

CREATE TABLE saved_retentions (
    name      text        COLLATE "C" NOT NULL,
    version   int         NOT NULL,
    retention jsonb       NOT NULL,
    saved_by  text        NOT NULL,
    saved_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

COMMENT ON TABLE  saved_retentions           IS 'Retentions kept under a name; a changed one is a new version, none is ever overwritten.';
COMMENT ON COLUMN saved_retentions.retention IS 'The question as it was put.';
COMMENT ON COLUMN saved_retentions.saved_by  IS 'Id of the key that saved it.';

GRANT SELECT, INSERT ON saved_retentions TO touchlog_app;
