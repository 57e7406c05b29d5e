"""Columns: the plain facts of the log as Parquet segments, and what is asked of them.

Rooms: `following` reads the log as `rows`, `writer` puts them into segments, `shelf` keeps these with their `manifest`,
`library` gives them to questions up to the head, as a `view` of `chunk`s. `lanes` keep rows in the order of their
owners, `persons` and `owned` tell whose these are, `gathering` takes out of both the events that a question looks at,
`sorting` orders them by unit. `kernel` runs funnels over sorted arrays, `chains` the plain ones faster, `funnels` asks
them; `retention_kernel` and `retention`, `walking` and `paths`, `spells` and `segments` do the same for theirs;
`compiled` is what these share, `why` tells why an answer has changed. `sql` and `export` are for other tools, `check`
holds the columns against the log.
"""
