-- The head: one row that numbers the log without gaps and carries its clock.
-- Whoever appends locks it FOR UPDATE, so that the order of positions is the order of commits.

CREATE TABLE head (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    log_id      uuid        NOT NULL DEFAULT gen_random_uuid(),
    position    bigint      NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    epoch       bigint      NOT NULL DEFAULT 1,
    erasures    bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

COMMENT ON TABLE  head             IS 'The counter and the clock of this log: one row, locked by every append.';
COMMENT ON COLUMN head.log_id      IS 'Names this log in its entries and on the bus; random, never changes.';
COMMENT ON COLUMN head.position    IS 'Position of the newest event; 0 while the log is empty.';
COMMENT ON COLUMN head.recorded_at IS 'The log''s clock: recorded_at of the newest commit, or the later time up to which the log was closed for a question.';
COMMENT ON COLUMN head.epoch       IS 'Generation of the database, raised by promote and restore; fences writers of an earlier one.';
COMMENT ON COLUMN head.erasures    IS 'Erasures carried out so far; an append that resolved its subjects before the last one is refused and resolves again.';

INSERT INTO head DEFAULT VALUES;
