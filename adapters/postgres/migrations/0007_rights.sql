-- The application works on these tables; only the owner changes their shape.

GRANT USAGE ON SCHEMA touchlog TO touchlog_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA touchlog TO touchlog_app;
GRANT CREATE, USAGE ON SCHEMA read TO touchlog_app;
GRANT USAGE ON SCHEMA read TO touchlog_analyst;

-- A rebuild lives in a schema of its own until it is swapped in.
DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO touchlog_app', current_database()); END $$;
