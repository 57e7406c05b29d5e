"""A rebuild on all processors: stripes of the log folded side by side, each by a process of its own.

Where rows follow from single events (`PerEvent`), their order in the log matters for one thing only: a
correction or a retraction closes rows of an earlier event. The projectors that keep up with the log have noted
already which of them speaks of what, so a stripe can be folded without those before it; what it closes elsewhere is
written down and closed when all stripes are there. A stripe is one transaction; a rebuild that was cut off goes on
with the stripes that are missing. Where a fold fails, all is folded again in order, because an event that is parked
holds back the later ones of its subject.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import sql

from adapters.postgres.read_models import LEASE_S, LeaseLost, ReadModels, Tracking
from adapters.rebuilds.stripe import Dealt, Folded, Order
from domain.errors import Unavailable
from projections.projection import Projection

__all__ = ["Stripes", "forget_stripes"]

log = structlog.get_logger()

STRIPE_EVENTS = 20_000
"""Events of a transaction: half a second's work."""
FEWEST_STRIPES = 5
"""Fewer are not worth the start of the processes."""
MOST_PROCESSES = 8
MOST_DEATHS = 3
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from adapters.rebuilds.stripe import work; work()"
)


class Stripes:
    """The part of a rebuild that is folded in stripes.

    Args:
        store: the rebuild's own tables and lease.
        until: stop at this position; None goes on to where the projectors are.
        as_of: only what had happened by then, as corrected.
        events: how many events make a stripe; the house's number by default.
    """

    def __init__(
        self,
        store: ReadModels,
        projection: Projection,
        schema: str,
        *,
        until: int | None = None,
        as_of: datetime | None = None,
        events: int | None = None,
    ) -> None:
        self._store = store
        self._projection = projection
        self._schema = schema
        self._until = until
        self._as_of = as_of
        self._events = events or STRIPE_EVENTS
        self._whose = (projection.name, schema)
        self._peaks: dict[int, float] = {}

    @property
    def peak_mb(self) -> float:
        """Most memory that the processes held, together."""
        return sum(self._peaks.values())

    def worth_it(self) -> bool:
        """Whether stripes are left to be folded, or to be closed, of a rebuild whose tables are there."""
        if "<locals>" in type(self._projection).__qualname__:
            return False  # no other process could find its class
        conn = self._store.connection
        begun = conn.execute(
            "SELECT EXISTS (SELECT FROM touchlog.rebuild_stripes WHERE name = %(name)s AND schema = %(schema)s) "
            "OR EXISTS (SELECT FROM touchlog.rebuild_closes WHERE name = %(name)s AND schema = %(schema)s), "
            "EXISTS (SELECT FROM touchlog.parked WHERE name = %(name)s AND schema = %(schema)s), "
            "coalesce((SELECT position FROM touchlog.projections WHERE name = %(name)s AND schema = %(schema)s), 0)",
            {"name": self._whose[0], "schema": self._whose[1]},
        ).fetchone()
        assert begun is not None
        under_way, parked, position = begun
        return under_way or (not parked and self._end() - position >= FEWEST_STRIPES * self._events)

    def _end(self) -> int:
        """Up to where every correction is noted: a projector has passed it."""
        row = self._store.connection.execute(
            "SELECT coalesce(max(position), 0) FROM touchlog.projections WHERE schema = 'read'"
        ).fetchone()
        assert row is not None
        return int(row[0]) if self._until is None else min(int(row[0]), self._until)

    def fold(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Fold all stripes that are not folded yet, and close what they close.

        Raises:
            Unavailable: another process is at this very rebuild; or the processes died again and again.
            LeaseLost: another process has taken it over.
        """
        tracking = self._store.take(self._projection)
        if tracking is None:
            raise Unavailable(
                f"Another process is at the rebuild of {self._whose[0]} in schema {self._schema}; wait for it to end."
            )
        self._leave_alone(True)
        hands = _Hands(self._order(tracking), self._peaks)
        try:
            failed = self._dealt_out(hands, tracking, progress)
        finally:
            hands.let_go()
        if failed is None:
            self._close(tracking)
        else:
            log.warning(
                "rebuild_folds_in_order", projection=self._whose[0], schema=self._schema, reason=failed
            )
            self._begin_anew(tracking)
        self._store.release(tracking)

    def _leave_alone(self, alone: bool) -> None:
        """Whether autovacuum leaves the tables alone: going over half-filled ones takes the disk from who fills them."""
        for table in self._projection.tables:
            self._store.connection.execute(
                sql.SQL("ALTER TABLE {} {} (autovacuum_enabled{})").format(
                    sql.Identifier(self._schema, table.name),
                    sql.SQL("SET" if alone else "RESET"),
                    sql.SQL(" = false" if alone else ""),
                )
            )

    def finished(self) -> None:
        """The tables are as others are again, those of a rebuild that was cut off included."""
        self._leave_alone(False)

    def _order(self, tracking: Tracking) -> Order:
        kind = type(self._projection)
        return Order(
            self._store.url,
            self._store.options,
            (kind.__module__, kind.__qualname__),
            self._schema,
            tracking.epoch,
            self._as_of,
        )

    def _missing(self, position: int, done: dict[int, int]) -> Iterator[Dealt]:
        """The stripes behind *position* that are not *done*, and those that come to be meanwhile."""
        furthest = max(done.values(), default=position)
        while (end := max(self._end(), furthest)) - position >= self._events:
            while position + self._events <= end:
                if position not in done:
                    yield Dealt(position, position + self._events)
                position += self._events

    def _dealt_out(
        self, hands: _Hands, tracking: Tracking, progress: Callable[[int, int], None] | None
    ) -> str | None:
        """Have every stripe folded; gives why, where a fold failed."""
        position, done = self._counted(tracking)
        self._events = min((until - after for after, until in done.items()), default=self._events)
        missing = self._missing(position, done)
        returned: deque[Dealt] = deque()
        renewed = time.monotonic()
        while True:
            while hands.free and (dealt := (returned.popleft() if returned else next(missing, None))):
                hands.deal(dealt)
            position, _ = self._counted(tracking)  # while they are at work
            if progress is not None:
                progress(position, self._end())
            if not hands.at_work:
                return None
            for answer in hands.answers(timeout_s=1.0):
                if isinstance(answer, Dealt):
                    returned.append(answer)
                elif answer.failed is not None:
                    return answer.failed
                elif answer.lost is not None:
                    self._store.renew(tracking)  # raises where the lease is what was lost
                    raise Unavailable(f"The rebuild in schema {self._schema} was cut off: {answer.lost}")
            if time.monotonic() - renewed > LEASE_S / 4:
                self._store.renew(tracking)
                renewed = time.monotonic()

    def _counted(self, tracking: Tracking) -> tuple[int, dict[int, int]]:
        """Move the tracking position to the first gap; gives it, and the stripes beyond it that are done."""
        conn = self._store.connection
        with conn.transaction():
            row = conn.execute(
                "SELECT position FROM touchlog.projections WHERE name = %s AND schema = %s AND epoch = %s FOR NO KEY UPDATE",
                (*self._whose, tracking.epoch),
            ).fetchone()
            if row is None:
                raise LeaseLost(f"{self._whose[0]}: another process is at the rebuild in {self._schema}.")
            position = int(row[0])
            done = dict(
                conn.execute(
                    "SELECT after, until FROM touchlog.rebuild_stripes WHERE name = %s AND schema = %s ORDER BY after",
                    self._whose,
                ).fetchall()
            )
            reached = position
            while reached in done:
                reached = done.pop(reached)
            if reached > position:
                conn.execute(
                    "UPDATE touchlog.projections SET position = %s, moved_at = clock_timestamp(), "
                    "recorded_at = (SELECT recorded_at FROM touchpoint_log.events WHERE position = %s) "
                    "WHERE name = %s AND schema = %s",
                    (reached, reached, *self._whose),
                )
                conn.execute(
                    "DELETE FROM touchlog.rebuild_stripes WHERE name = %s AND schema = %s AND until <= %s",
                    (*self._whose, reached),
                )
        return reached, done

    def _close(self, tracking: Tracking) -> None:
        """Close the rows of events that another stripe corrected or took back."""
        conn = self._store.connection
        with conn.transaction():
            for table in self._projection.tables:
                some = conn.execute(
                    "SELECT FROM touchlog.rebuild_closes WHERE name = %s AND schema = %s AND table_name = %s LIMIT 1",
                    (*self._whose, table.name),
                ).fetchone()
                if some is None:  # the whole table would be gone through for nothing
                    continue
                conn.execute(
                    sql.SQL(
                        "UPDATE {} AS t SET known_to = (SELECT min(c.known_to) FROM touchlog.rebuild_closes c "
                        "WHERE c.name = %(name)s AND c.schema = %(schema)s AND c.table_name = %(table)s "
                        "AND c.position = t.position AND c.known_to > t.known_from) "
                        "WHERE t.known_to IS NULL AND t.position IN (SELECT c.position FROM touchlog.rebuild_closes c "
                        "WHERE c.name = %(name)s AND c.schema = %(schema)s AND c.table_name = %(table)s)"
                    ).format(sql.Identifier(self._schema, table.name)),
                    {"name": self._whose[0], "schema": self._whose[1], "table": table.name},
                )
            conn.execute("DELETE FROM touchlog.rebuild_closes WHERE name = %s AND schema = %s", self._whose)
            self._still_ours(tracking)

    def _begin_anew(self, tracking: Tracking) -> None:
        """Empty the tables: all is folded in order."""
        conn = self._store.connection
        with conn.transaction():
            for table in self._projection.tables:
                conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(self._schema, table.name)))
            forget_stripes(conn, *self._whose)
            conn.execute(
                "UPDATE touchlog.projections SET position = 0, recorded_at = '-infinity' WHERE name = %s AND schema = %s",
                self._whose,
            )
            self._still_ours(tracking)

    def _still_ours(self, tracking: Tracking) -> None:
        self._store.renew(tracking)


def forget_stripes(conn: psycopg.Connection[Any], name: str, schema: str) -> None:
    """Forget what was folded of a rebuild, whose rows are gone."""
    for kept in ("rebuild_stripes", "rebuild_closes"):
        conn.execute(
            sql.SQL("DELETE FROM touchlog.{} WHERE name = %s AND schema = %s").format(sql.Identifier(kept)),
            (name, schema),
        )


class _Hands:
    """The processes that fold.

    Args:
        order: what each of them is told first.
        peaks: where the most memory of each is kept.
    """

    def __init__(self, order: Order, peaks: dict[int, float]) -> None:
        self._first = msgspec.json.encode(sys.path) + b"\n" + msgspec.json.encode(order) + b"\n"
        self._peaks = peaks
        self._deaths = 0
        self.free: list[subprocess.Popen[bytes]] = []
        self.at_work: dict[subprocess.Popen[bytes], Dealt] = {}
        try:
            for _ in range(max(2, min(MOST_PROCESSES, (os.cpu_count() or 2) // 2))):
                self._start()
        except BaseException:
            self.let_go()
            raise

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # as a session of its own it can stand back behind others
        )
        self.free.append(process)
        self._say(process, self._first)

    @staticmethod
    def _say(process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died: its answer will tell
            process.stdin.write(line)
            process.stdin.flush()

    def deal(self, dealt: Dealt) -> None:
        """Give a stripe to one that is free."""
        process = self.free.pop()
        self.at_work[process] = dealt
        self._say(process, msgspec.json.encode(dealt) + b"\n")

    def answers(self, timeout_s: float) -> list[Folded | Dealt]:
        """What was folded, within *timeout_s*; the stripe of one that died comes back.

        Raises:
            Unavailable: too many died.
        """
        ready, _, _ = select.select([p.stdout for p in self.at_work if p.stdout], [], [], timeout_s)
        found: list[Folded | Dealt] = []
        for process in [p for p in self.at_work if p.stdout in ready]:
            assert process.stdout is not None
            dealt = self.at_work.pop(process)
            line = process.stdout.readline()
            if line.endswith(b"\n"):
                folded = msgspec.json.decode(line, type=Folded)
                self._peaks[process.pid] = folded.peak_mb
                self.free.append(process)
                found.append(folded)
                continue
            self._ended(process)
            self._deaths += 1
            log.warning("rebuild_process_died", exit_code=process.returncode, after=dealt.after)
            if self._deaths > MOST_DEATHS:
                raise Unavailable(
                    "The processes of the rebuild died again and again; the log of the system may tell why (memory?)."
                )
            found.append(dealt)
            self._start()
        return found

    def let_go(self) -> None:
        """End them all; what they had not committed is gone."""
        for process in (*self.free, *self.at_work):
            self._ended(process)
        self.free, self.at_work = [], {}

    @staticmethod
    def _ended(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()
        process.wait()
