"""The library: the columns of an installation as questions see them, up to the very head of the log.

What the shelf holds is read once and kept; what the log holds beyond it, the fresh tail, is read from the log
itself, so that an event acknowledged a moment ago is in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from adapters.columns.chunk import Chunk, Vocabulary
from adapters.columns.following import connected, followed, head_of
from adapters.columns.lanes import Lanes
from adapters.columns.manifest import Manifest
from adapters.columns.owned import Owned
from adapters.columns.persons import Everybody, Moments
from adapters.columns.rows import REFERENCE, Row, table_of
from adapters.columns.shelf import Shelf
from adapters.columns.view import Owners, View
from domain.funnels.reading import micros

__all__ = ["Library"]

_BLOCK_ROWS = 5000
"""The tail is kept in blocks of so many rows, of which only the last is made anew when events come."""


class Library:
    """The columns of one installation.

    Args:
        url: the database. It is asked on one connection, by one question at a time.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._shelf = Shelf(folder)
        self._lock = Lock()
        self._conn: psycopg.Connection[Any] | None = None
        self._moments = Moments()
        self._reset(Manifest(""))

    def _reset(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._vocabularies: dict[str, Vocabulary] = {}
        self._lanes = Lanes()
        self._segments: dict[str, Chunk] = {}
        self._blocks: list[tuple[list[Row], Chunk]] = []
        self._tail_to = manifest.position
        self._ends: dict[str, list[tuple[int, int]]] = {}
        self._tail_ends: list[tuple[int, int]] = []
        self._closed: dict[int, list[int]] = {}
        self._closed_version = 0
        self._closed_to = 0
        self._owned = Owned()

    def close(self) -> None:
        """Let go of the database."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed:
            self._conn = connected(self._url)
        return self._conn

    def view(self, known_at: int, as_of: datetime | None) -> tuple[View, Owners, int]:
        """(what was known at a position and had happened by a time, whose is what then, when the position was recorded in µs).

        The read model of identities has seen *known_at*.
        """
        with self._lock:
            conn = self._connection()
            self._refresh(conn, known_at)
            chunks = [self._segments[s.name] for s in self._manifest.segments if s.first <= known_at]
            chunks += [chunk for _, chunk in self._blocks]
            view = View(
                chunks,
                self._vocabularies,
                known_at=known_at,
                as_of_us=None if as_of is None else micros(as_of),
                closed=self._closed,
                closed_version=self._closed_version,
                closed_to=self._closed_to,
                beside=[self._segments[s.name] for s in self._manifest.segments if s.first > known_at],
                lanes=self._lanes,
            )
            everybody = self._moments.at(conn, as_of, known_at)
            row = conn.execute(
                "SELECT recorded_at FROM touchpoint_log.events WHERE position = %s", (known_at,)
            ).fetchone()

            def owners(values: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
                return self._owners(conn, everybody, values)

            return view, owners, micros(row[0]) if row else 0

    def persons(self, known_at: int, as_of: datetime | None = None) -> Mapping[str, str]:
        """The person of each subject that is not its person's smallest, at one moment."""
        with self._lock:
            return self._moments.at(self._connection(), as_of, known_at).persons

    def whose(self, known_at: int, as_of: datetime | None = None) -> dict[str, str]:
        """The person of each such subject and of each order or case that is somebody's, as owners are named."""
        persons = self.persons(known_at, as_of)
        with self._lock:
            conn = self._connection()
            named = [str(r) for (r,) in conn.execute("SELECT DISTINCT reference FROM read.references")]
            owned = Everybody(as_of, known_at, persons).of_references(conn, named) if named else {}
        return {**persons, **{f"{REFERENCE}{reference}": person for reference, person in owned.items()}}

    def _refresh(self, conn: psycopg.Connection[Any], known_at: int) -> None:
        manifest = self._shelf.read()
        head, log_id = head_of(conn)
        if manifest is None or not manifest.is_of(log_id, head):
            manifest = Manifest(log_id)
        if manifest.log_id != self._manifest.log_id or manifest.position < self._manifest.position:
            self._reset(manifest)
        if manifest != self._manifest or set(self._segments) != {s.name for s in manifest.segments}:
            self._take(manifest)
        # To the head, whatever is asked: what there is to ask for must not hang on what was read before.
        if max(known_at, head) > self._tail_to:
            for batch in followed(conn, self._tail_to, max(known_at, head)):
                self._append(batch.rows)
                self._tail_ends += batch.closed
                self._tail_to = batch.position
                if batch.closed:
                    self._count_closed()

    def _take(self, manifest: Manifest) -> None:
        """Look at the shelf as it is now, and drop from the tail what stands there."""
        self._manifest = manifest
        self._segments = {
            s.name: self._segments.get(s.name) or Chunk(self._shelf.folder / s.name, self._vocabularies)
            for s in manifest.segments
        }
        self._ends = {c.name: self._ends.get(c.name) or self._closed_of(c.name) for c in manifest.closed}
        kept = [row for rows, _ in self._blocks for row in rows if row.known_from > manifest.position]
        self._blocks = []
        self._append(kept)
        self._tail_ends = [(p, to) for p, to in self._tail_ends if to > manifest.position]
        self._tail_to = max(self._tail_to, manifest.position)
        self._count_closed()

    def _closed_of(self, name: str) -> list[tuple[int, int]]:
        table = pq.read_table(self._shelf.folder / name)
        return list(zip(table["position"].to_pylist(), table["known_to"].to_pylist(), strict=True))

    def _count_closed(self) -> None:
        self._closed = {}
        self._closed_to = 0
        for position, to in (pair for some in (*self._ends.values(), self._tail_ends) for pair in some):
            self._closed.setdefault(position, []).append(to)
            self._closed_to = max(self._closed_to, to)
        self._closed_version += 1

    def _append(self, rows: list[Row]) -> None:
        if not rows:
            return
        if self._blocks and len(self._blocks[-1][0]) < _BLOCK_ROWS:
            rows = [*self._blocks.pop()[0], *rows]
        self._blocks.append((rows, Chunk(table_of(rows), self._vocabularies)))

    def _owners(
        self, conn: psycopg.Connection[Any], everybody: Everybody, values: Sequence[str]
    ) -> tuple[NDArray[np.int32], list[str]]:
        """The code of each owner's person, and the persons; -1 for orders and cases that are nobody's."""
        with self._lock:
            return self._owned.of(
                everybody.persons, values, lambda references: everybody.of_references(conn, references)
            )
