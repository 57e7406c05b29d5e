-- known_at: resolve a time once to a position, for ever. For a time at or after the head's the log
-- is closed up to it under the lock of the head, so that no later commit can fall at or below it.

CREATE FUNCTION known_at(p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    h head%ROWTYPE;
BEGIN
    IF p_at > clock_timestamp() THEN
        RAISE EXCEPTION 'known_at % lies in the future.', p_at
              USING ERRCODE = 'TL004', HINT = 'Ask for a time that has passed, or leave known_at out.';
    END IF;
    SELECT * INTO h FROM head;
    IF p_at >= h.recorded_at THEN
        SELECT * INTO h FROM head FOR UPDATE;
        IF p_at >= h.recorded_at THEN
            UPDATE head SET recorded_at = p_at;
            RETURN h.position;
        END IF;
    END IF;
    RETURN position_at(p_at);
END;
$$;
