"""`database_url`, a fresh migrated database for each test, stands in tests/conftest.py for all folders."""
