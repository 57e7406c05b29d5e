"""The manifest of the columns: the one file that says which segments count, and how far they reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

__all__ = ["MANIFEST", "VERSION", "Manifest", "Segment", "columns_differ", "read_manifest", "written_to"]

VERSION = 1
"""Of the rows; raised when they change, so that the columns are written anew."""
MANIFEST = "manifest.json"


class Segment(msgspec.Struct, frozen=True):
    """A file of rows; all became known at positions from `first` to `last`."""

    name: str
    rows: int
    first: int
    last: int


class Manifest(msgspec.Struct, frozen=True):
    """What counts: the columns of one log up to a position; `gone` are replaced files and since when (s)."""

    log_id: str
    version: int = VERSION
    position: int = 0
    next: int = 1
    segments: tuple[Segment, ...] = ()
    closed: tuple[Segment, ...] = ()
    gone: tuple[tuple[str, float], ...] = ()

    def is_of(self, log_id: str, head: int) -> bool:
        """Whether these are columns of a log as it is now: of no other, of no other version, and not ahead of it."""
        return (self.log_id, self.version) == (log_id, VERSION) and self.position <= head


def read_manifest(folder: Path) -> Manifest | None:
    """What counts now; None where there is nothing yet."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None


def written_to(folder: Path, log_id: str, head: int) -> int:
    """How far the columns of a log are written down; whoever asks reads what is behind from the log."""
    try:
        found = read_manifest(folder)
    except (OSError, msgspec.DecodeError):
        return 0
    return found.position if found is not None and found.is_of(log_id, head) else 0


def columns_differ(conn: Any) -> int:
    """How many rows of the columns were found to differ from the log when they were last checked."""
    row = conn.execute(
        "SELECT coalesce(sum(rows), 0)::bigint FROM touchlog.differences WHERE name = 'columns'"
    ).fetchone()
    return int(row[0])
