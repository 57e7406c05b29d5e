"""Imports: files of others, read row by row into CloudEvents; one file a format, registered by being there.

A format is a pure reader: an opened file in, rows out, each with its place ("orders.csv line 17"). A row
is an event for ingest, or a rejection that says what is wrong and what would be right; a rejection never
stops the rows after it. To add a format: write a module here that calls `register(Format(...))`.

Tables (CSV and its relatives) need no code: `maps.Map` declares which column becomes which field, as
`csv --map FILE.toml` does for anybody's files; `online_retail` and `cdnow` are such declarations.
"""

from adapters.imports.format import FORMATS, Format, Options, Rejection, Row, chosen
from adapters.imports.source_file import SourceFile, open_file
from domain.discovery import load_siblings

__all__ = ["FORMATS", "Format", "Options", "Rejection", "Row", "SourceFile", "chosen", "open_file"]

load_siblings(__name__, list(__path__))
