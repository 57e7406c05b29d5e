-- The application works on these tables; only the owner changes their shape.

GRANT USAGE ON SCHEMA touchlog TO touchlog_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA touchlog TO touchlog_app;
GRANT CREATE, USAGE ON SCHEMA read TO touchlog_app;
GRANT USAGE ON SCHEMA read TO touchlog_analyst;
