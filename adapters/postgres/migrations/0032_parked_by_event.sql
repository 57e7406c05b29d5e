-- parked: what waits is a step of one event, so that two events which one position touches (a correction and the event it corrects) wait each by itself.

ALTER TABLE parked ADD COLUMN event bigint;
UPDATE parked p SET event = coalesce(
    (SELECT min(k.position) FROM amendments a JOIN touchpoint_log.keys k ON k.stream = a.target AND k.version = 1
      WHERE a.position = p.position AND p.subject IS NOT NULL), p.position);
ALTER TABLE parked ALTER COLUMN event SET NOT NULL;
ALTER TABLE parked DROP CONSTRAINT parked_once;
DELETE FROM parked a USING parked b
 WHERE a.name = b.name AND a.schema = b.schema AND a.position = b.position AND a.event = b.event AND a.ctid > b.ctid;
ALTER TABLE parked ADD PRIMARY KEY (name, schema, position, event);

COMMENT ON COLUMN parked.position IS 'The position that could not be folded: of the event itself, of its correction, of the retraction of its import.';
COMMENT ON COLUMN parked.event    IS 'Position of the event that it concerns.';
