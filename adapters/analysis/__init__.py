"""Analysis: funnels, retention, segments and paths asked in somebody's words, answered from the columns.

Rooms: `funnels`, `retentions`, `segments` (questions resolved to one moment), `saved_names` and `saved_segments` (what
is kept under a name), `snapshots` and `snapshot_schedule` (what a saved funnel told, and when it is asked again),
`charts` and `path_chart` (answers as SVG). The kernels are in `adapters/columns`, the meaning in `domain/`.
"""
