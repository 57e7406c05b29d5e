-- Judging: how far the judge has come, who writes a verdict on every message that went out; one row.

CREATE TABLE judging (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    position  bigint  NOT NULL DEFAULT 0,
    recorded  bigint  NOT NULL DEFAULT 0,
    policy    text    COLLATE "C",
    swept     bigint  NOT NULL DEFAULT 0
);
INSERT INTO judging DEFAULT VALUES;

COMMENT ON TABLE  judging          IS 'How far the judge has come; changes in the transaction that records its verdicts.';
COMMENT ON COLUMN judging.position IS 'Everything up to this position of the touchpoint log has been judged by.';
COMMENT ON COLUMN judging.recorded IS 'Position of the last verdict that was recorded.';
COMMENT ON COLUMN judging.policy   IS 'Version of the policy tables by which it was judged; by another one every message is judged anew.';
COMMENT ON COLUMN judging.swept    IS 'While judging anew: messages up to this position are done.';

GRANT SELECT, UPDATE ON judging TO touchlog_app;
