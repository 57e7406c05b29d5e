-- amendments: which corrections speak of which event, and which retractions of which import.

CREATE TABLE amendments (
    target   uuid   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (target, position)
);

COMMENT ON TABLE  amendments          IS 'Which corrections speak of which event, and which retractions of which import; found while projecting.';
COMMENT ON COLUMN amendments.target   IS 'Event id, or import id of a retraction.';
COMMENT ON COLUMN amendments.position IS 'The correction or retraction.';

GRANT SELECT, INSERT, UPDATE, DELETE ON amendments TO touchlog_app;
