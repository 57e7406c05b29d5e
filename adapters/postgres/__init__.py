"""PostgreSQL, the one store: the log, the subjects, the read models.

Rooms: `schema` (migrations), `event_log` (the recorder on the `eventsourcing` library, the only
place that speaks its words: originator = stream, notification id = position, topic = type),
`writer` (group commit for many callers), `arrays` (binary parameters), `subjects` (identifiers to
surrogates and keys), `read_models` (rows and tracking position in one transaction).
"""
