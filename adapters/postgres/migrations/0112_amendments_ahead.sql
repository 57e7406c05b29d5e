-- amendments: which of them came ahead of their event, so that whom such an event named, and no read model holds,
-- is found without looking through them all.

ALTER TABLE amendments ADD COLUMN ahead boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN amendments.ahead IS 'Whether the event it speaks of was not in the log yet.';

UPDATE amendments a SET ahead = true
 WHERE NOT EXISTS (SELECT FROM touchpoint_log.keys k
                    WHERE k.stream = a.target AND k.version = 1 AND k.position <= a.position);

CREATE INDEX amendments_ahead ON amendments (target) WHERE ahead;
