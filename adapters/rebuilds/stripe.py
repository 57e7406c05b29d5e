"""One stripe of the log after the other, folded into a read model that is being rebuilt: a process of its own.

`adapters/rebuilds/stripes.py` starts some of these and deals the stripes. A stripe is one transaction: its rows, the
rows of other stripes that it closes, and the record that it is done. Whoever has lost the lease commits nothing.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.binary_copy import pack_known
from adapters.priority import stand_back, stand_back_in_database
from domain.entry import Recorded, decode_body
from projections.projection import Changes, Projection, Table
from projections.steps import Steps

__all__ = ["Dealt", "Folded", "Order", "peak_mb", "work"]

PAGE_EVENTS = 500
"""Events that are read, folded and written at once: what stays in the processor's caches costs a third less."""
NICENESS = 10
"""Whoever waits for an answer goes first: a rebuild takes what events that arrive and readers leave."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Order(msgspec.Struct, frozen=True):
    """What a process is told first."""

    url: str
    options: str
    projection: tuple[str, str]  # module and class
    schema: str
    epoch: int
    as_of: datetime | None = None


class Dealt(msgspec.Struct, frozen=True):
    """The next stripe: the positions behind *after*, up to and with *until*."""

    after: int
    until: int


class Folded(msgspec.Struct, frozen=True):
    """What became of a stripe."""

    peak_mb: float
    failed: str | None = None  # what a fold raised: nothing of the stripe was written
    lost: str | None = None  # the lease, or the database


def work() -> None:
    """Fold the stripes that come, a line each, on standard input; ends with it."""
    import domain.touchpoints  # noqa: F401 - registers every declared type
    from projections.projection import load_foreign

    stand_back(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a projection prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one ends it
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    module, name = order.projection
    stripes = _Stripes(order, getattr(import_module(module), name)())
    load_foreign()
    gc.collect()
    gc.freeze()
    gc.disable()  # the fold makes millions of short-lived objects and no cycles: looking for some took half the time
    for line in sys.stdin.buffer:
        dealt = msgspec.json.decode(line, type=Dealt)
        failed = lost = None
        try:
            stripes.fold(dealt)
        except (psycopg.OperationalError, LostLease) as error:
            lost = f"{type(error).__name__}: {error}"[:300]
        except Exception as error:  # noqa: BLE001 - whatever a fold raises is told, and parks its event later
            failed = f"{type(error).__name__}: {error}"[:300]
        gc.collect()
        answers.write(msgspec.json.encode(Folded(peak_mb(), failed, lost)) + b"\n")
        answers.flush()


def peak_mb() -> float:
    """Most memory that this process held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e6


class LostLease(Exception):
    """Another process is at this rebuild now."""


class _Stripes:
    def __init__(self, order: Order, projection: Projection) -> None:
        self._order = order
        self._projection = projection
        self._conn = psycopg.connect(order.url, autocommit=True, options=order.options)
        self._conn.prepare_threshold = 0
        stand_back_in_database(self._conn, NICENESS)
        self._amendments = StoredAmendments(lambda: self._conn)

    def fold(self, dealt: Dealt) -> None:
        """Write the rows of one stripe, unless they are there.

        Raises:
            LostLease: nothing was written.
        """
        order, conn = self._order, self._conn
        whose = (self._projection.name, order.schema)
        with conn.transaction():
            # One that was killed may still be committing this very stripe: this waits for it.
            mine = conn.execute(
                "INSERT INTO touchlog.rebuild_stripes (name, schema, after, until) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (*whose, dealt.after, dealt.until),
            )
            if mine.rowcount != 1:
                return
            closed = self._rows_written(dealt)
            for table, ends in closed.items():
                conn.execute(
                    "INSERT INTO touchlog.rebuild_closes (name, schema, table_name, position, known_to) "
                    "SELECT %s, %s, %s, * FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING",
                    (*whose, table, [position for position, _ in ends], [to for _, to in ends]),
                )
            held = conn.execute(
                "SELECT position FROM touchlog.projections WHERE name = %s AND schema = %s AND epoch = %s FOR SHARE",
                (*whose, order.epoch),
            ).fetchone()
            if held is None:
                raise LostLease(f"Another process is at the rebuild in schema {order.schema}.")
            if held[0] > dealt.after:  # done by one that was killed, and counted since
                raise psycopg.Rollback

    def _rows_written(self, dealt: Dealt) -> dict[str, list[tuple[int, int]]]:
        """Copy the rows of a stripe in; gives (event, known to) of what it closes, by table."""
        maker = Steps(self._amendments, dealt.after, as_of=self._order.as_of)
        closed: dict[str, list[tuple[int, int]]] = {}
        last = dealt.after
        while last < dealt.until:
            rows = self._page(last, min(PAGE_EVENTS, dealt.until - last))
            last = rows[-1][0]
            events = []
            for position, recorded_at, body in rows:
                try:
                    events.append((Recorded(position, recorded_at, decode_body(body)), body))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # a row of the library's raw path, which no read model knows
            if not events:
                continue
            changes = Changes()
            fold = self._projection.fold
            for step in self._projection.handled(maker.of(events)[0]):
                fold(step, changes)
            for table in self._projection.tables:
                if table.name in changes.known:
                    self._copy(table, pack_known(table.row, changes.known_rows(table)))
                for position, ends in changes.closed.get(table.name, {}).items():
                    closed.setdefault(table.name, []).extend((position, to) for to in ends)
        return closed

    def _page(self, after: int, limit: int) -> Sequence[tuple[int, datetime, bytes]]:
        with self._conn.cursor(binary=True) as curs:
            curs.execute(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position > %s ORDER BY position LIMIT %s",
                (after, limit),
                prepare=True,
            )
            return curs.fetchall()

    def _copy(self, table: Table[Any], rows: Iterable[bytes]) -> None:
        with (
            self._conn.cursor() as curs,
            curs.copy(
                sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
                    sql.Identifier(self._order.schema, table.name),
                    sql.SQL(", ").join(map(sql.Identifier, (*table.columns, "known_from", "known_to"))),
                )
            ) as copy,
        ):
            for piece in rows:
                copy.write(piece)
