"""The outside world: PostgreSQL, NATS, HTTP, pages, imports, embedded servers. Imports domain and projections."""
