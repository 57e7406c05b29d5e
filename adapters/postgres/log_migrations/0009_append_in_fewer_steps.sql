-- append, as 0005 says, in fewer steps: a group of few events pays for statements, not for rows.
-- The head is counted on and its clock set by the one statement that locks it; what may choose a plan
-- (a group of which some key is known) is a function of its own, with the settings that choosing needs.
-- The clock is read again where the lock had to be waited for: the row is then computed anew.

CREATE FUNCTION append_with_known(
    p_epoch    bigint,
    p_erasures bigint,
    p_streams  uuid[],
    p_versions bigint[],
    p_hashes   uuid[],
    p_types    text[],
    p_bodies   bytea[]
) RETURNS TABLE (first_position bigint, recorded_at timestamptz,
                 known_ordinals bigint[], known_positions bigint[], known_same boolean[])
LANGUAGE plpgsql
SET search_path FROM CURRENT
-- A plan made while the tables were empty must still be right when they hold billions of rows.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    h   head%ROWTYPE;
    t   timestamptz;
    n   bigint := cardinality(p_streams);
    ko  bigint[];
    kp  bigint[];
    ks  boolean[];
BEGIN
    SELECT * INTO h FROM head FOR UPDATE;
    IF p_epoch <> h.epoch THEN
        RAISE EXCEPTION 'This writer belongs to epoch %, the database is at epoch %.', p_epoch, h.epoch
              USING ERRCODE = 'TL001', HINT = 'Restart the writer.';
    END IF;
    IF p_erasures <> h.erasures THEN
        RAISE EXCEPTION 'A person was erased since the subjects were resolved.'
              USING ERRCODE = 'TL002', HINT = 'Resolve the subjects again.';
    END IF;
    t := greatest(clock_timestamp(), h.recorded_at + interval '1 microsecond');

    SELECT array_agg(u.o), array_agg(k.position), array_agg(k.payload_hash IS NOT DISTINCT FROM u.payload_hash)
      INTO ko, kp, ks
      FROM unnest(p_streams, p_versions, p_hashes) WITH ORDINALITY AS u (stream, version, payload_hash, o)
      JOIN keys k ON k.stream = u.stream AND k.version = u.version;
    IF cardinality(ko) < n THEN
        INSERT INTO keys (stream, version, position, payload_hash)
        SELECT u.stream, u.version, h.position + row_number() OVER (ORDER BY u.o), u.payload_hash
          FROM unnest(p_streams, p_versions, p_hashes) WITH ORDINALITY AS u (stream, version, payload_hash, o)
         WHERE u.o <> ALL (ko);
        INSERT INTO events (position, recorded_at, stream, version, type, body)
        SELECT h.position + row_number() OVER (ORDER BY u.o), t, u.stream, u.version, u.type, u.body
          FROM unnest(p_streams, p_versions, p_types, p_bodies) WITH ORDINALITY AS u (stream, version, type, body, o)
         WHERE u.o <> ALL (ko);
        UPDATE head SET position = h.position + n - cardinality(ko), recorded_at = t;
    END IF;
    RETURN QUERY SELECT h.position + 1, t, ko, kp, ks;
END;
$$;

REVOKE ALL ON FUNCTION append_with_known(bigint, bigint, uuid[], bigint[], uuid[], text[], bytea[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION append(
    p_epoch    bigint,   -- the generation this writer belongs to; null: any
    p_erasures bigint,   -- erasures carried out when the subjects were resolved; null: no subjects
    p_strict   boolean,  -- true: all or nothing, a known key raises unique_violation
    p_streams  uuid[],
    p_versions bigint[],
    p_hashes   uuid[],
    p_types    text[],
    p_bodies   bytea[]
) RETURNS TABLE (first_position bigint, recorded_at timestamptz,
                 known_ordinals bigint[], known_positions bigint[], known_same boolean[])
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    h   head%ROWTYPE;
    n   bigint := cardinality(p_streams);
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append needs READ COMMITTED, not %.', current_setting('transaction_isolation')
              USING ERRCODE = 'invalid_transaction_state';
    END IF;

    BEGIN
        UPDATE head SET position = position + n,
                        recorded_at = greatest(clock_timestamp(), recorded_at + interval '1 microsecond')
          RETURNING * INTO h;
        IF p_epoch <> h.epoch THEN
            RAISE EXCEPTION 'This writer belongs to epoch %, the database is at epoch %.', p_epoch, h.epoch
                  USING ERRCODE = 'TL001', HINT = 'Restart the writer.';
        END IF;
        IF p_erasures <> h.erasures THEN
            RAISE EXCEPTION 'A person was erased since the subjects were resolved.'
                  USING ERRCODE = 'TL002', HINT = 'Resolve the subjects again.';
        END IF;
        IF clock_timestamp() < h.recorded_at - interval '60 seconds' THEN
            RAISE EXCEPTION 'The database clock (%) stands more than 60 s behind the head of the log (%).',
                            clock_timestamp(), h.recorded_at
                  USING ERRCODE = 'TL003', HINT = 'Set the clock right; nothing was recorded.';
        END IF;
        INSERT INTO keys (stream, version, position, payload_hash)
        SELECT u.stream, u.version, h.position - n + u.o, u.payload_hash
          FROM unnest(p_streams, p_versions, p_hashes) WITH ORDINALITY AS u (stream, version, payload_hash, o);
        INSERT INTO events (position, recorded_at, stream, version, type, body)
        SELECT h.position - n + u.o, h.recorded_at, u.stream, u.version, u.type, u.body
          FROM unnest(p_streams, p_versions, p_types, p_bodies) WITH ORDINALITY AS u (stream, version, type, body, o);
        RETURN QUERY SELECT h.position - n + 1, h.recorded_at, NULL::bigint[], NULL::bigint[], NULL::boolean[];
        RETURN;
    EXCEPTION WHEN unique_violation THEN
        IF p_strict THEN RAISE; END IF;
    END;

    RETURN QUERY SELECT * FROM append_with_known(p_epoch, p_erasures, p_streams, p_versions, p_hashes, p_types, p_bodies);
END;
$$;
