-- append_with_known, as 0009 says, but what it is asked for without a known key is refused: something else was in the
-- way of the first try, as when the head was set back behind the events. It recorded nothing then, and was answered
-- as if it had; an answer of "recorded" is a commit, or there is none.

CREATE OR REPLACE FUNCTION append_with_known(
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
    IF ko IS NULL THEN
        RAISE EXCEPTION 'What stands in the log already is in the way of this append, and is none of its keys: the head says %.',
                        h.position
              USING ERRCODE = 'unique_violation',
                    HINT = 'Nothing was recorded. Does the head stand behind the events of the log, or was one key given twice?';
    END IF;
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
