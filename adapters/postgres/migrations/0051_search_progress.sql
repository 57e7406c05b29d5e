-- Search progress: how far the search words have come behind the profiles; one row.

CREATE TABLE search_progress (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    position  bigint  NOT NULL DEFAULT 0,
    rule      integer NOT NULL DEFAULT 0
);
INSERT INTO search_progress DEFAULT VALUES;

COMMENT ON TABLE  search_progress          IS 'How far the search words follow the profiles.';
COMMENT ON COLUMN search_progress.position IS 'The position of the profiles up to which words are there.';
COMMENT ON COLUMN search_progress.rule     IS 'Version of the rule that made them; those of another are made anew.';

GRANT SELECT, INSERT, UPDATE, DELETE ON search_words, search_progress TO touchlog_app;
