-- read.event_log: an event that names only an order or a case is the person's whose they are, as in the columns.

CREATE FUNCTION person_of_reference(p_reference uuid) RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (SELECT coalesce(i.person, r.subject) FROM read.references r LEFT JOIN read.identities i ON i.subject = r.subject
             WHERE r.reference = p_reference AND r.known_to IS NULL
             ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1);
EXCEPTION WHEN undefined_table THEN  -- before the first projector has run
    RETURN NULL;
END;
$$;

CREATE OR REPLACE VIEW read.event_log AS
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
       CASE WHEN b -> 'subjects' -> 0 IS NOT NULL
            THEN touchlog.person_of((b -> 'subjects' -> 0 ->> 0)::uuid)
            WHEN b -> 'references' -> 0 IS NOT NULL
            THEN touchlog.person_of_reference((b -> 'references' -> 0 ->> 0)::uuid)
       END                                           AS person,
       b -> 'data'                                   AS data
  FROM touchpoint_log.events e
       CROSS JOIN LATERAL (
           -- A row of the library's raw path may hold any bytes; what begins so is a body of ours (its keys are sorted).
           SELECT CASE WHEN substring(e.body FROM 1 FOR 11) = '{"channel":' OR substring(e.body FROM 1 FOR 13) = '{"causation":'
                       THEN convert_from(e.body, 'UTF8')::jsonb END AS b
           OFFSET 0  -- decoded once a row, not once a column
       ) AS body
 WHERE b IS NOT NULL;

COMMENT ON COLUMN read.event_log.person IS 'The person of that subject, or of the order or case where it names nobody, as resolved now: the smallest subject of the person.';
