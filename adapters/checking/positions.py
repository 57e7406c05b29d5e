"""Rows that follow from one event: a range of positions, folded from the log and compared byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.checking.rows import Found, compared, known_row, stored_known
from adapters.checking.snapshot import Snapshot
from adapters.postgres.binary_copy import row_packer
from projections.identities import Identities
from projections.linking import REFERENCES
from projections.projection import Changes, PerEvent, Projection, Step, Table

__all__ = ["BUCKET", "compare_positions", "name_of", "tables_by_position"]

BUCKET = 10_000
"""Positions that are compared together."""


def tables_by_position(projection: Projection) -> tuple[Table[Any], ...]:
    """The tables of a projection whose rows follow from one event each."""
    if isinstance(projection, PerEvent):
        return tuple(t for t in projection.tables if t.known)
    return (REFERENCES,) if isinstance(projection, Identities) else ()


def name_of(bucket: int) -> str:
    """What a bucket of positions is called."""
    return f"positions {bucket * BUCKET + 1}-{(bucket + 1) * BUCKET}"


def compare_positions(
    snap: Snapshot, name: str, bucket: int, steps: Sequence[Step], *, newest: bool = False
) -> list[Found]:
    """The rows of one projection that differ in a bucket of positions.

    Args:
        steps: what ever happened to the events of the bucket.
        newest: the bucket is the last there is: rows of positions behind it should not be.
    """
    projection = type(snap.live[name].projection)()  # one that remembers nothing
    changes = Changes()
    for step in snap.seen_by(name, steps):
        try:
            projection.fold(step, changes)
        except Exception:  # noqa: BLE001, S112 - what cannot be folded has no rows; the projector parks it
            continue
    found: list[Found] = []
    for table in tables_by_position(projection):
        pack = row_packer(table.row, 2)
        expected = [known_row(pack, row, since, to) for row, since, to in changes.known_rows(table)]
        first = bucket * BUCKET + 1 if bucket else None
        stored = stored_known(snap.conn, table, first, None if newest else (bucket + 1) * BUCKET)
        found += compared(table, name_of(bucket), expected, stored)
    return found
