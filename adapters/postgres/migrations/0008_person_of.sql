-- person_of: the person of a subject as resolved now: the smallest subject of the person. A subject
-- that no link has joined to another is a person of its own.

CREATE FUNCTION person_of(p_subject uuid) RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN coalesce((SELECT i.person FROM read.identities i WHERE i.subject = p_subject), p_subject);
EXCEPTION WHEN undefined_table THEN  -- before the first projector has run
    RETURN p_subject;
END;
$$;
