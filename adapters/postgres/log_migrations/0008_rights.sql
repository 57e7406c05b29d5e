-- The application may read the log, and append to it through the one function that numbers it.

REVOKE ALL ON ALL TABLES IN SCHEMA :schema FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA :schema FROM PUBLIC;
GRANT USAGE  ON SCHEMA :schema TO touchlog_app;
GRANT SELECT ON ALL TABLES IN SCHEMA :schema TO touchlog_app;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA :schema TO touchlog_app;
