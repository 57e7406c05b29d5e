"""ClickHouse: the same columns and the same funnels where one machine is not enough.

Rooms: `tables.sql` are its tables, `loader` follows the log into them (resumable, each row once), `statement` makes a
question one SELECT, `asking` and `funnels` ask it, `server` speaks to a server over HTTP. Any server from version 25.3
on does, in one node or with the tables made Replicated by its operator; nothing here needs more of it than its HTTP
port.
"""
