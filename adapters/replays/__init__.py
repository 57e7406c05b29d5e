"""Replays: history out of the log in the order of positions, streamed (`replay`), as `text` or in columns (`parquet`)."""
