"""The writer of the columns: follows the log and puts segments on the shelf."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import structlog

from adapters.columns.following import followed, head_of
from adapters.columns.rows import Row
from adapters.columns.shelf import Shelf

__all__ = ["ENOUGH_ROWS", "Columns"]

ENOUGH_ROWS = 20_000
"""So many events behind, and a segment is written; fewer are read from the log by whoever asks."""
AT_ONCE_ROWS = 250_000
"""Rows of one segment as it is first written."""

log = structlog.get_logger()


class Columns:
    """Keeps the shelf up with the log; to be used within `Shelf.written`."""

    def __init__(self, conn: psycopg.Connection[object], shelf: Shelf) -> None:
        self._conn = conn
        self._shelf = shelf
        head, log_id = head_of(conn)
        self._manifest = shelf.begin(log_id, head)

    @property
    def position(self) -> int:
        """How far the columns reach."""
        return self._manifest.position

    def step(
        self,
        *,
        all_of_it: bool = False,
        stopped: Callable[[], bool] = lambda: False,
        rest: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Write what has come, when it is enough; returns how many positions that were.

        Args:
            all_of_it: write whatever there is.
            stopped: asked between batches: whether to leave the rest for the next time.
            rest: called between batches with the position that was read to.
        """
        head, _ = head_of(self._conn)
        behind = head - self.position
        if not behind or (behind < ENOUGH_ROWS and not all_of_it):
            return 0
        start = self.position
        rows: list[Row] = []
        closed: list[tuple[int, int]] = []
        last = start
        for batch in followed(self._conn, start, head):
            rows += batch.rows
            closed += batch.closed
            last = batch.position
            if len(rows) + len(closed) >= AT_ONCE_ROWS:
                self._put(rows, closed, last)
                rows, closed = [], []
            if stopped():
                break
            rest(last)
        if last > self.position:
            self._put(rows, closed, last)
        return last - start

    def _put(self, rows: list[Row], closed: list[tuple[int, int]], position: int) -> None:
        began_s = time.monotonic()
        self._manifest = self._shelf.tidy(self._shelf.add(self._manifest, rows, closed, position))
        log.info(
            "columns_written",
            position=position,
            rows=len(rows),
            segments=len(self._manifest.segments),
            took_ms=round((time.monotonic() - began_s) * 1000),
        )
