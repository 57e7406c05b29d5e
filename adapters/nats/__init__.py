"""NATS, the bus: never the record.

Rooms: `connection` (kept for ever), `requests` (the way in: asked, committed, answered), `inbound` (the way in for those
who must buffer) through the `doors` of their keys, `relay` (the way out: every event in order into a JetStream stream)
by `publishing` (many messages at once), `streams` (as large as there is room for), `heads` (the news that the log has
grown). When the bus is down everything still works: appends come over HTTP, projectors look by themselves.
"""
