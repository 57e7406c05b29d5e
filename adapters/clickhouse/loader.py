"""The loader: follows the log into ClickHouse, batch by batch, and goes on where it was cut off.

A batch writes rows, then what it closes, then the position that it reached. Whatever stands behind that position was
left by a batch that was cut off, and is taken out before the next: so each row is there once, however often the loader
was killed. One loads at a time: the log's database holds a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import psycopg

from adapters.clickhouse.server import Server, literal, make_tables, rows_of
from adapters.columns.following import followed, head_of
from adapters.columns.rows import Row
from domain.errors import Refused, Unavailable
from domain.funnels.property import kind_of_value, shown

__all__ = ["Loader", "encoded", "reached"]

BATCH_ROWS = 100_000


class _Line(msgspec.Struct):
    position: int
    at_us: int
    recorded_us: int
    type: str
    channel: str
    direction: str
    source: str
    source_id: str
    owner: str
    known_from: int
    properties: dict[str, str]


def encoded(value: Any) -> str:
    """A value as the tables hold it: one text for values that are the same."""
    return msgspec.json.encode(shown(value), order="sorted").decode()


def reached(server: Server) -> tuple[int, str]:
    """(the position up to which the log is loaded, the log's id; 0 and '' where nothing is)."""
    ((position, log_id),) = rows_of(server, "SELECT max(position), argMax(log_id, position) FROM loaded")
    return int(position), str(log_id)


class Loader:
    """Loads one log into one server.

    Args:
        conn: the log's database, in autocommit; it is held for this loader alone.

    Raises:
        Refused: the tables hold another log.
        Unavailable: another loader is at it, or the server is away.
    """

    def __init__(self, conn: psycopg.Connection[Any], server: Server) -> None:
        self._conn = conn
        self._server = server
        row = conn.execute("SELECT pg_try_advisory_lock(hashtext('touchlog clickhouse loader'))").fetchone()
        if row is None or not row[0]:
            raise Unavailable("Another loader fills ClickHouse from this log; it goes on by itself.")
        make_tables(server)
        self.head, self._log_id = head_of(conn)
        self.position, log_id = reached(server)
        if log_id not in ("", self._log_id) or self.position > self.head:
            raise Refused(
                f"The tables hold another log ({log_id}, up to position {self.position:,}); name another database, or drop them."
            )
        for table, column in (("events", "known_from"), ("closed", "known_to")):
            behind = f"{column} > {self.position}"
            if rows_of(server, f"SELECT count() FROM {table} WHERE {behind}") != [[0]]:
                server.run(f"ALTER TABLE {table} DELETE WHERE {behind} SETTINGS mutations_sync = 2")

    def load(
        self,
        *,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Load up to the head as it is now; returns the position reached.

        Args:
            stopped: asked between batches.
            progress: called with (position, position to reach).
        """
        self.head, _ = head_of(self._conn)
        rows: list[Row] = []
        closed: list[tuple[int, int]] = []
        last = self.position
        for batch in followed(self._conn, self.position, self.head):
            rows += batch.rows
            closed += batch.closed
            last = batch.position
            if len(rows) + len(closed) >= BATCH_ROWS:
                self._put(rows, closed, last)
                rows, closed = [], []
                if progress is not None:
                    progress(last, self.head)
                if stopped():
                    return self.position
        if last > self.position:
            self._put(rows, closed, last)
            if progress is not None:
                progress(last, self.head)
        return self.position

    def _put(self, rows: list[Row], closed: list[tuple[int, int]], position: int) -> None:
        kinds = {(path, kind_of_value(v)) for row in rows for path, v in row.properties.items()}
        self._insert("events", map(_line, rows))
        self._insert("closed", ({"position": p, "known_to": to} for p, to in closed))
        self._insert("paths", ({"path": path, "kind": kind} for path, kind in sorted(kinds)))
        self._server.run(
            f"INSERT INTO loaded (position, log_id) VALUES ({position}, {literal(self._log_id)})"
        )
        self.position = position

    def _insert(self, table: str, lines: Iterable[Any]) -> None:
        body = b"\n".join(map(msgspec.json.encode, lines))
        if body:
            self._server.run(f"INSERT INTO {table} FORMAT JSONEachRow", body)


def _line(row: Row) -> _Line:
    return _Line(
        position=row.position,
        at_us=row.occurred_at,
        recorded_us=row.recorded_at,
        type=row.type,
        channel=row.channel,
        direction=row.direction or "",
        source=row.source,
        source_id=row.source_id,
        owner=row.owner or "",
        known_from=row.known_from,
        properties={path: encoded(value) for path, value in row.properties.items()},
    )
