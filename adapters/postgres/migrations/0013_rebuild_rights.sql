-- The application makes schemas: a rebuild lives in one of its own until it is swapped in.

DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO touchlog_app', current_database()); END $$;
