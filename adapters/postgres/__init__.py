"""PostgreSQL, the one store: the log, the subjects, the read models.

Rooms: `schema` (migrations, in `migrations/` and `log_migrations/`), `event_log` (the recorder on the `eventsourcing`
library, the only place that speaks its words: originator = stream, notification id = position, topic = type), `writer`
(group commit for many callers) upon `lane` (one statement over and over) and `arrays` (binary parameters), `subjects`
(identifiers to surrogates and keys), `amendments` (corrections, for the projector), `read_models` (rows and tracking
position in one transaction) with `declared_tables` and `binary_copy`, `check` (the log against itself). Beside the log:
`rejected`, `api_keys`, `channel_counts`. `outage` and `reading_pool` are about connections.
"""
