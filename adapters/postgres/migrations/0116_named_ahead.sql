-- named_ahead: whom events name that were corrected before they came, so that such a person, whom no read model ever
-- held so, is found at once, however many corrections came ahead. It says which events are to be looked into.

CREATE TABLE named_ahead (
    subject  uuid   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (subject, position)
);

COMMENT ON TABLE  named_ahead          IS 'Who may be named by events that were corrected before they came; found while projecting.';
COMMENT ON COLUMN named_ahead.subject  IS 'A surrogate that stands in the event.';
COMMENT ON COLUMN named_ahead.position IS 'The event.';

GRANT SELECT, INSERT, UPDATE, DELETE ON named_ahead TO touchlog_app;

INSERT INTO named_ahead (subject, position)
SELECT DISTINCT found.told[1]::uuid, e.position
  FROM amendments a
       JOIN touchpoint_log.keys k ON k.stream = a.target AND k.version = 1
       JOIN touchpoint_log.events e ON e.position = k.position,
       LATERAL regexp_matches(convert_from(e.body, 'UTF8'), '"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"', 'g') AS found (told)
 WHERE a.ahead;

ALTER TABLE amendments DROP COLUMN ahead;
