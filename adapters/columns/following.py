"""The log as rows of the columns, read onward from a position, with what it corrects and takes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import psycopg

from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.schema import APP_ROLE
from domain.entry import Recorded, decode_body
from projections.steps import Steps

if TYPE_CHECKING:
    from adapters.columns.rows import Row

__all__ = ["Batch", "connected", "followed", "head_of"]

BATCH_EVENTS = 5000


class Batch(NamedTuple):
    """What some positions of the log change: rows that become known, and rows that are no longer (event, from when)."""

    position: int
    recorded_at: datetime
    rows: list[Row]
    closed: list[tuple[int, int]]


def connected(url: str) -> psycopg.Connection[Any]:
    """A connection for reading the log."""
    return psycopg.connect(url, autocommit=True, options=f"-c role={APP_ROLE}")


def head_of(conn: psycopg.Connection[Any]) -> tuple[int, str]:
    """(the newest position of the log, the log's id)."""
    row = conn.execute("SELECT position, log_id::text FROM touchpoint_log.head").fetchone()
    assert row is not None
    return row[0], row[1]


def followed(conn: psycopg.Connection[Any], after: int, until: int) -> Iterator[Batch]:
    """What the log says behind *after*, up to *until*."""
    from adapters.columns.rows import changes_of  # here, for those who only look how far the log is

    amendments = StoredAmendments(lambda: conn)
    maker = Steps(amendments, after)
    while after < until:
        curs = conn.cursor(binary=True)
        curs.execute(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position > %s AND position <= %s "
            "ORDER BY position LIMIT %s",
            (after, until, BATCH_EVENTS),
            prepare=True,
        )
        found = curs.fetchall()
        if not found:
            return
        events = []
        for position, recorded_at, body in found:
            try:
                events.append((Recorded(position, recorded_at, decode_body(body)), body))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a row of the library's raw path, which no read model knows
        steps, noted = maker.of(events) if events else ([], [])
        amendments.note(conn, noted)
        after = found[-1][0]
        yield Batch(after, found[-1][1], *changes_of(steps))
