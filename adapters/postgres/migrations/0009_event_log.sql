-- read.event_log: the analysts' view of the log; plain facts only, sealed ones do not appear.

CREATE VIEW read.event_log AS
SELECT e.position,
       (b ->> 'event_id')::uuid                      AS event_id,
       e.type,
       b ->> 'source'                                AS source,
       b ->> 'id'                                    AS source_id,
       b ->> 'channel'                               AS channel,
       b ->> 'direction'                             AS direction,
       (b ->> 'occurred_at')::timestamptz            AS occurred_at,
       e.recorded_at,
       (b -> 'subjects' -> 0 ->> 0)::uuid            AS subject,
       touchlog.person_of((b -> 'subjects' -> 0 ->> 0)::uuid) AS person,
       b -> 'data'                                   AS data
  FROM touchpoint_log.events e
       CROSS JOIN LATERAL (
           -- A row of the library's raw path may hold any bytes; what begins so is a body of ours (its keys are sorted).
           SELECT CASE WHEN substring(e.body FROM 1 FOR 11) = '{"channel":' OR substring(e.body FROM 1 FOR 13) = '{"causation":'
                       THEN convert_from(e.body, 'UTF8')::jsonb END AS b
           OFFSET 0  -- decoded once a row, not once a column
       ) AS body
 WHERE b IS NOT NULL;

COMMENT ON VIEW  read.event_log             IS 'All recorded events for analysts; no personal field.';
COMMENT ON COLUMN read.event_log.position    IS 'Place in the log, gap-free, in commit order.';
COMMENT ON COLUMN read.event_log.occurred_at IS 'When it happened, as the source says.';
COMMENT ON COLUMN read.event_log.recorded_at IS 'When the log took it.';
COMMENT ON COLUMN read.event_log.subject     IS 'Surrogate of the first identifier that the event names.';
COMMENT ON COLUMN read.event_log.person      IS 'The person of that subject as resolved now: the smallest subject of the person.';
COMMENT ON COLUMN read.event_log.data        IS 'The plain properties; sealed ones are absent.';
GRANT SELECT ON read.event_log TO touchlog_analyst, touchlog_app;
