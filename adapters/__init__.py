"""The outside world: PostgreSQL, NATS, HTTP, pages, imports, embedded servers. Imports domain and projections.

Rooms: `intake` (a payload to items of the log), behind the doors `http`, `nats`, `channels` (what vendors send) and
`imports` (files); `postgres` (the log and the read models), `embedded` (servers of our own); `answers` (what people ask
of persons and of the log), `consent`, `analysis` with its `columns` and `clickhouse`; `replays`, `rebuilds` and
`checking` (the log against the read models).

Beside the rooms stands what several of them need: `keys` (the key file, sealing), `principal` and `refusal`,
`identifiers`, `records` (the second log), `endpoints` with `signing` and `signatures` (webhooks), `deliveries` and `mending` (what a
channel makes of a request, and what was kept, tried again), `priority`, `destination` and `spreadsheets`.

No two rooms import each other, not even by way of a third.
"""
