-- saved_funnels: questions kept under a name, every version of them.

CREATE TABLE saved_funnels (
    name     text        COLLATE "C" NOT NULL,
    version  int         NOT NULL,
    funnel   jsonb       NOT NULL,
    saved_by text        NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);

COMMENT ON TABLE  saved_funnels          IS 'Funnels kept under a name; a changed one is a new version, none is ever overwritten.';
COMMENT ON COLUMN saved_funnels.funnel   IS 'The question as it was put.';
COMMENT ON COLUMN saved_funnels.saved_by IS 'Id of the key that saved it.';

GRANT SELECT, INSERT ON saved_funnels TO touchlog_app;
