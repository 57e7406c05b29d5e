"""Importing: what `touchlog ingest` does with its files.

Rooms: `run` (read ahead, sent in batches, counted), `trial` (the dry run), `progress` (how far it is), `outcome` (what
became of it, and how a person is told).
"""
