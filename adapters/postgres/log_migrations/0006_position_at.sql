-- position_at: the newest position that was recorded at or before a time; 0 when there is none.
-- recorded_at grows with position, so some thirty steps of halving need no index of their own.

CREATE FUNCTION position_at(p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    low  bigint := 0;
    high bigint;
    mid  bigint;
BEGIN
    SELECT position INTO high FROM head;
    WHILE low < high LOOP
        mid := (low + high + 1) / 2;
        IF (SELECT recorded_at FROM events WHERE position = mid) <= p_at THEN
            low := mid;
        ELSE
            high := mid - 1;
        END IF;
    END LOOP;
    RETURN low;
END;
$$;
