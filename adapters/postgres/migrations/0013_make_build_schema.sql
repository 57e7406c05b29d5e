-- make_build_schema: a rebuild lives in a schema of its own until it is swapped in. The application makes it
-- by this function and by no right on the database: such a right is lost when a database is copied or restored.

CREATE FUNCTION make_build_schema(p_schema text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION touchlog_app', p_schema);
END;
$$;

COMMENT ON FUNCTION make_build_schema(text) IS 'Makes a schema that the application owns, for a read model that is rebuilt, retired or shows another moment.';
REVOKE EXECUTE ON FUNCTION make_build_schema(text) FROM PUBLIC;
GRANT  EXECUTE ON FUNCTION make_build_schema(text) TO touchlog_app;
