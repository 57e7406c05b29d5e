-- Verdicts in force: of every message that was judged the last verdict, so that only what differs is recorded.

CREATE TABLE verdicts_in_force (
    message   uuid   PRIMARY KEY,
    verdict   uuid   NOT NULL,
    knowledge bigint NOT NULL,
    said      uuid   NOT NULL
);

COMMENT ON TABLE  verdicts_in_force           IS 'The judge''s memory: which verdict the next one on a message supersedes. No person is named.';
COMMENT ON COLUMN verdicts_in_force.message   IS 'Event id of the message.';
COMMENT ON COLUMN verdicts_in_force.verdict   IS 'Event id of the verdict in force.';
COMMENT ON COLUMN verdicts_in_force.knowledge IS 'Position by whose knowledge it was judged.';
COMMENT ON COLUMN verdicts_in_force.said      IS 'Digest of verdict, reason and looks: another judgement that says the same is not recorded.';

GRANT SELECT, INSERT, UPDATE ON verdicts_in_force TO touchlog_app;
