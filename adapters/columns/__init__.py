"""Columns: the plain facts of the log as Parquet segments, and what is asked of them.

`rows` makes rows of steps of the log, `segment` writes and reads files of them, `shelf` keeps the files of an
installation, `writer` follows the log, `view` is what a question reads (segments and the fresh tail). `lanes` keep
rows in the order of their owners, `owned` tells whose these are, `gathering` takes out of both the events that a
question looks at. `kernel` runs funnels over sorted arrays, `chains` the plain ones faster, `funnels` asks them;
`retention_kernel` and `retention` do the same for retention.
"""
