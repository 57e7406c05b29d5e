-- links_refused: how many links are refused as resolved now, by a limit per kind or by a split.

CREATE FUNCTION links_refused() RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN (SELECT coalesce(sum(c.refused), 0)::bigint FROM read.clusters c);
EXCEPTION WHEN undefined_table THEN  -- before the projector of identities has run
    RETURN 0;
END;
$$;
COMMENT ON FUNCTION links_refused() IS 'How many links are refused as resolved now; touchlog persons refused lists them.';
