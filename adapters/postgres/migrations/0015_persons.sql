-- read.persons: the persons as resolved now, for analysts: surrogates and counts, no identifier.
-- A function reads the tables by name, and the view stands on it: the projectors make the tables later than
-- this file runs, and a rebuilt read model is swapped in under the same name, while a view that named
-- the tables would go on reading those that were retired.

CREATE FUNCTION persons_now()
RETURNS TABLE (person uuid, subjects bigint, events bigint, inbound bigint, outbound bigint,
               channels jsonb, first_at timestamptz, last_at timestamptz)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH owner AS (  -- a reference (order, case) belongs to the person of the earliest event that names both
        SELECT DISTINCT ON (r.reference) r.reference AS named, r.subject
          FROM read.references r WHERE r.known_to IS NULL
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id
    ), activity AS (
        SELECT coalesce(o.subject, a.subject) AS subject, a.subject AS named, a.channel, a.events, a.inbound, a.outbound
          FROM read.person_activity a
               LEFT JOIN owner o ON o.named = a.subject
               LEFT JOIN touchlog.subjects s ON s.subject = a.subject
         WHERE o.subject IS NOT NULL OR coalesce(s.kind, '') NOT IN ('order', 'case')
    ), resolved AS (
        SELECT coalesce(i.person, a.subject) AS person, a.*
          FROM activity a LEFT JOIN read.identities i ON i.subject = a.subject
    ), by_channel AS (
        SELECT r.person, r.channel, sum(r.events)::bigint AS events, sum(r.inbound)::bigint AS inbound, sum(r.outbound)::bigint AS outbound
          FROM resolved r GROUP BY r.person, r.channel
    ), spans AS (
        SELECT r.person, min(h.occurred_at) AS first_at, max(h.occurred_at) AS last_at
          FROM (SELECT DISTINCT resolved.person, resolved.named FROM resolved) r
               JOIN read.contact_history h ON h.subject = r.named AND h.known_to IS NULL
         GROUP BY r.person
    )
    SELECT c.person,
           greatest(1, (SELECT count(*) FROM read.identities i WHERE i.person = c.person)),
           sum(c.events)::bigint, sum(c.inbound)::bigint, sum(c.outbound)::bigint,
           jsonb_object_agg(c.channel, c.events), min(s.first_at), max(s.last_at)
      FROM by_channel c LEFT JOIN spans s ON s.person = c.person
     GROUP BY c.person;
EXCEPTION WHEN undefined_table THEN  -- before the first projector has run
    RETURN;
END;
$$;
COMMENT ON FUNCTION persons_now() IS 'The rows of read.persons.';

CREATE VIEW read.persons AS SELECT * FROM touchlog.persons_now();
COMMENT ON VIEW   read.persons          IS 'Persons as resolved now, with the sums over their linked subjects; no personal field.';
COMMENT ON COLUMN read.persons.person   IS 'The person: its smallest subject.';
COMMENT ON COLUMN read.persons.subjects IS 'How many identifiers it has.';
COMMENT ON COLUMN read.persons.events   IS 'How many events, over all channels.';
COMMENT ON COLUMN read.persons.inbound  IS 'How many of them came from the customer.';
COMMENT ON COLUMN read.persons.outbound IS 'How many of them went to the customer.';
COMMENT ON COLUMN read.persons.channels IS 'Events by channel.';
COMMENT ON COLUMN read.persons.first_at IS 'When the first of them happened.';
COMMENT ON COLUMN read.persons.last_at  IS 'When the last of them happened.';
GRANT SELECT ON read.persons TO touchlog_analyst, touchlog_app;
