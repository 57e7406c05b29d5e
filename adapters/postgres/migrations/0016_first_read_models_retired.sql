-- The first contact_history and identities have other columns than those that know corrections. They are set
-- aside as a swap does it, and the projectors build the new ones from position 0 at the next start; the old
-- are kept until `touchlog rebuild NAME --drop retired_NAME`.

DO $$
DECLARE
    old    record;
    tables text[];
    each   text;
BEGIN
    FOR old IN SELECT name, 'retired_' || name AS schema
                 FROM projections WHERE schema = 'read' AND version = 1 AND name IN ('contact_history', 'identities')
    LOOP
        PERFORM make_build_schema(old.schema);
        tables := CASE old.name WHEN 'identities' THEN ARRAY['identities', 'links', 'references'] ELSE ARRAY[old.name] END;
        FOREACH each IN ARRAY tables LOOP
            EXECUTE format('ALTER TABLE IF EXISTS read.%I SET SCHEMA %I', each, old.schema);
        END LOOP;
        UPDATE projections SET schema = old.schema, state = 'retired', epoch = epoch + 1, holder = NULL, leased_to = '-infinity'
         WHERE name = old.name AND schema = 'read';
    END LOOP;
END $$;
