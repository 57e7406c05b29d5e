"""The check as it runs beside the product: the newest every half minute, the whole within a period, on a tenth of a core."""

from __future__ import annotations

import hashlib
import inspect
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog

from adapters.checking.budget import Budget
from adapters.checking.recent import WINDOW, Recent
from adapters.checking.snapshot import connected
from adapters.checking.sums import Sums
from adapters.checking.sweep import Comparison, Sweep
from adapters.priority import Pressure
from domain.errors import NotFound
from projections.projection import PROJECTIONS, Projection

__all__ = ["Checker", "Outcome", "check_now"]

log = structlog.get_logger()

SHARE = 0.1
RECENT_EVERY_S = 30.0
"""A difference that was made right behind one look is told by the next: within a minute."""
KEPT_EVERY_S = 20.0
_ONE_CHECKER = 7_021_905_117_300_020  # any number, the same in every touchlog


class Outcome(NamedTuple):
    """What a check on demand found of one read model."""

    name: str
    position: int
    rows: int
    differences: list[dict[str, Any]]


def chosen(names: Iterable[str]) -> list[Projection]:
    """The projections of these names, or all.

    Raises:
        NotFound: there is none of a name; lists those there are.
    """
    wanted = list(names)
    for name in wanted:
        if name not in PROJECTIONS:
            raise NotFound(f"There is no projection '{name}'; there are: {', '.join(sorted(PROJECTIONS))}.")
    return [PROJECTIONS[name] for name in wanted or PROJECTIONS]


def fold_digest(projection: Projection) -> str:
    """Changes when the file of the projection or its version does."""
    try:
        source = inspect.getsource(inspect.getmodule(type(projection)) or type(projection))
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(f"{projection.version}\n{source}".encode()).hexdigest()[:32]


def check_now(
    url: str, names: Iterable[str] = (), *, progress: Callable[[str, int, int], None] | None = None
) -> list[Outcome]:
    """Compare the whole of these read models, or of all, at full speed; what was found is kept as the continuous check keeps it.

    Args:
        progress: called with (stage, position, position to reach).
    """
    projections = chosen(names)
    conn = connected(url)
    try:
        comparison = Comparison(conn, projections, helping=PROJECTIONS.values())
        sweep = Sweep(comparison)
        while sweep.piece():
            if progress is not None:
                progress(sweep.stage, sweep.position, sweep.target)
        with comparison.seen() as snap:
            live = {n: each for n, each in snap.live.items() if n in comparison.projections}
        for name, each in live.items():
            swept(conn, name, each.build, fold_digest(each.projection), sweep.target)
        return [
            Outcome(name, sweep.target, *told(conn, name))
            for name in (p.name for p in projections)
            if name in live
        ]
    finally:
        conn.close()


def told(conn: psycopg.Connection[Any], name: str) -> tuple[int, list[dict[str, Any]]]:
    """(how many rows of a read model differ, up to 100 buckets of them with examples)."""
    rows = conn.execute(
        "SELECT table_name, bucket, rows, examples, found_at FROM touchlog.differences WHERE name = %s ORDER BY table_name, bucket",
        (name,),
    ).fetchall()
    return sum(r[2] for r in rows), [
        {"table": table, "bucket": bucket, "rows": count, "examples": examples, "found_at": found_at}
        for table, bucket, count, examples, found_at in rows[:100]
    ]


def swept(conn: psycopg.Connection[Any], name: str, build: datetime, fold: str, position: int) -> None:
    """Note that the whole was compared."""
    conn.execute(
        "INSERT INTO touchlog.checks (name, build, fold, position, checked_at, swept_position, swept_at) "
        "VALUES (%(name)s, %(build)s, %(fold)s, %(at)s, clock_timestamp(), %(at)s, clock_timestamp()) "
        "ON CONFLICT (name) DO UPDATE SET build = excluded.build, position = greatest(checks.position, excluded.position), "
        "checked_at = excluded.checked_at, swept_position = excluded.swept_position, swept_at = excluded.swept_at",
        {"name": name, "build": build, "fold": fold, "at": position},
    )


class Checker:
    """The continuous check of one database.

    Args:
        period_s: the whole is swept once within it.
        share: of one core, that is used at most.
        every_s: how often the newest is looked at.
        stopping: set to end it.
    """

    def __init__(
        self,
        url: str,
        *,
        period_s: float,
        stopping: threading.Event,
        share: float = SHARE,
        every_s: float = RECENT_EVERY_S,
        window: int = WINDOW,
        projections: Iterable[Projection] | None = None,
    ) -> None:
        self._stopping = stopping
        self._period_s = period_s
        self._every_s = every_s
        self._conn = connected(url)
        self._pressure = Pressure()
        self.budget = Budget(share)
        self.budget.watch(self._conn)
        self.comparison = Comparison(
            self._conn, PROJECTIONS.values() if projections is None else projections, rest=self._rest
        )
        self._folds = {n: fold_digest(p) for n, p in self.comparison.projections.items()}
        self._window = window
        self._recent: Recent | None = None
        self._sweep: Sweep | None = None
        self._looked_s = float("-inf")
        self._kept_s = time.monotonic()

    def close(self) -> None:
        """Let go of the connection."""
        self._conn.close()

    def alone(self) -> bool:
        """Whether this is the only check of the database; the right is kept until `close`."""
        row = self._conn.execute("SELECT pg_try_advisory_lock(%s)", (_ONE_CHECKER,)).fetchone()
        return bool(row and row[0])

    def run(self) -> None:
        """Check until told to stop."""
        while not self._stopping.is_set():
            if not self.turn():
                self._wait(1.0)

    def turn(self) -> bool:
        """Do what is due, one piece; False when nothing was."""
        if self._recent is None:
            self._recent = Recent(
                self.comparison, self._carried("sums"), window=self._window, stopping=self._stopping.is_set
            )
        if time.monotonic() - self._looked_s >= self._every_s:
            self.look()
            return True
        return self._sweep_on()

    def look(self) -> None:
        """Look at the newest now."""
        if self._recent is None:
            self._recent = Recent(
                self.comparison, self._carried("sums"), window=self._window, stopping=self._stopping.is_set
            )
        self._looked_s = time.monotonic()
        found = self._recent.look()
        if self._stopping.is_set():
            return
        for name, (position, build) in found.items():
            carried = self._recent.carried.get(name)
            self._conn.execute(
                "INSERT INTO touchlog.checks (name, build, fold, position, checked_at, sums_position, sums) "
                "VALUES (%s, %s, %s, %s, clock_timestamp(), %s, %s) ON CONFLICT (name) DO UPDATE SET "
                "build = excluded.build, fold = excluded.fold, position = excluded.position, checked_at = excluded.checked_at, "
                "sums_position = excluded.sums_position, sums = excluded.sums",
                (
                    name,
                    build,
                    self._folds[name],
                    position,
                    carried.position if carried else 0,
                    carried.kept() if carried else None,
                ),
            )

    def _sweep_on(self) -> bool:
        """Compare the next piece of the whole, where the period asks for it."""
        if self._sweep is None:
            row = self._conn.execute(
                "SELECT ended_at IS NULL, stage, position, mark, extract(epoch FROM clock_timestamp() - started_at) FROM touchlog.sweep"
            ).fetchone()
            if row is not None and row[0]:
                _, stage, position, mark, _ = row
                self._sweep = Sweep(
                    self.comparison,
                    stage=stage,
                    position=position,
                    mark=mark,
                    carried=self._carried("new_sums"),
                )
            elif row is None or row[4] >= self._period_s:
                self._conn.execute(
                    "INSERT INTO touchlog.sweep DEFAULT VALUES ON CONFLICT (singleton) DO UPDATE SET "
                    "started_at = clock_timestamp(), ended_at = NULL, stage = 'positions', position = 0, mark = ''"
                )
                self._sweep = Sweep(self.comparison)
            else:
                return False
        sweep = self._sweep
        going_on = sweep.piece()
        if time.monotonic() - self._kept_s > KEPT_EVERY_S or not going_on:
            self._kept_s = time.monotonic()
            self._keep(sweep)
        if not going_on:
            self._ended(sweep)
        return True

    def _keep(self, sweep: Sweep) -> None:
        with self._conn.transaction():
            self._conn.execute(
                "UPDATE touchlog.sweep SET stage = %s, position = %s, mark = %s",
                (sweep.stage, sweep.position, sweep.mark),
            )
            for name, carried in sweep.carried.items():
                self._conn.execute(
                    "UPDATE touchlog.checks SET new_sums_position = %s, new_sums = %s WHERE name = %s",
                    (carried.position, carried.kept(), name),
                )

    def _ended(self, sweep: Sweep) -> None:
        self._sweep = None
        with self.comparison.seen() as snap:
            live = dict(snap.live)
        for name, each in live.items():
            swept(self._conn, name, each.build, self._folds[name], sweep.target)
        self._conn.execute("UPDATE touchlog.sweep SET ended_at = clock_timestamp()")
        if self._recent is not None:  # what was carried along is replaced by what was read anew
            self._recent.carried.update(sweep.carried)
        log.info("read_models_swept", position=sweep.target, rows_found=self.comparison.differing)
        self.comparison.differing = 0

    def _carried(self, column: str) -> dict[str, Sums]:
        """Hashes of sums as an earlier process left them, where their fold is still the same."""
        rows = {
            name: (position, kept)
            for name, fold, position, kept in self._conn.execute(
                f"SELECT name, fold, {column}_position, {column} FROM touchlog.checks"  # noqa: S608 - names of our own
            )
            if kept is not None and self._folds.get(name) == fold
        }
        return {
            name: Sums(type(p)(), *(rows.get(name) or (0, None)))
            for name, p in self.comparison.counting.items()
        }

    def _rest(self) -> None:
        """Rest until no more than the share was used."""
        rest_s = self.budget.rest_s(is_short=self._pressure.is_high())
        if rest_s > 0.005:
            self._wait(rest_s)

    def _wait(self, seconds: float) -> None:
        self.budget.rest_s()
        self._stopping.wait(seconds)
        self.budget.rested()
