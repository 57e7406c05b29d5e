"""Processes: what `touchlog serve` starts and watches over; `bin/parts.py` is how each is started.

Rooms: `http`, `projectors` with the threads beside them (`follower`, `indexer`, `judging`), `columns`, `checking`,
`relay`, `rebuilder` (what rebuilds while nobody waits), `demo_loader`.
"""
