"""Rebuilding read models: beside the one that answers, or as of another moment.

A rebuild folds the log from zero into tables of its own, at full speed, while the old ones answer. It can
be compared row by row, and swapped in within one transaction. With `known_at` or `as_of` it
stops at an earlier moment and stays in a side schema, to be asked in SQL and dropped.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog
from psycopg import sql

from adapters.postgres.declared_tables import make_indexes, make_tables, tables_of
from adapters.postgres.event_log import LogRecorder
from adapters.postgres.read_models import ReadModels, Tracking
from adapters.rebuilds.stripes import Stripes, forget_stripes
from domain.errors import NotFound, Refused, Unavailable
from projections.projection import PROJECTIONS, Projection, foldable_apart
from projections.projector import Projector

__all__ = ["Difference", "Rebuild", "drop", "schema_for"]

log = structlog.get_logger()

BATCH_EVENTS = 10_000
COLLECT_EVERY = 50
"""Batches; garbage is not looked for in between."""
SWAP_WITHIN = 100_000
"""Positions that a rebuild may lag when it is swapped in; the rest is folded while the old one's projector waits."""
LOCK_WAIT_MS = 2_000
"""So long a swap waits for who reads the old tables, while everybody who comes waits behind it."""
SWAP_AGAIN_S = 120.0
"""So long it is tried again."""


class Difference(NamedTuple):
    """Rows that two builds of one table do not share."""

    table: str
    only_live: int
    only_rebuilt: int
    examples: list[tuple[str, dict[str, Any]]]  # (which side, row)


def fresh(name: str) -> Projection:
    """A projection with no memory of other batches.

    Raises:
        NotFound: no projection has this name; lists those there are.
    """
    if name not in PROJECTIONS:
        raise NotFound(f"There is no projection '{name}'; there are: {', '.join(sorted(PROJECTIONS))}.")
    return type(PROJECTIONS[name])()


def schema_for(name: str, *, known_at: int | None = None, as_of: datetime | None = None) -> str:
    """The schema that a rebuild lives in: `build_<name>`, or one that names the moment it shows."""
    if known_at is None and as_of is None:
        return f"build_{name}"[:63]
    parts = [name]
    if known_at is not None:
        parts.append(f"known_{known_at}")
    if as_of is not None:
        parts.append("as_of_" + re.sub(r"[^0-9]", "", as_of.isoformat(timespec="seconds"))[:14])
    return "_".join(parts)[:63]


class Rebuild:
    """One rebuild of one projection.

    Args:
        schema: where its tables are made; by default the name that `schema_for` gives.
        until: stop at this position and stay there; None follows the head.
        as_of: only what had happened by then, as corrected.
        batch: how many events are folded per transaction; the house's number by default.
        stripe: how many events make a stripe, where stripes are folded side by side; the house's number by default.
    """

    def __init__(
        self,
        url: str,
        reader: LogRecorder,
        name: str,
        *,
        schema: str | None = None,
        until: int | None = None,
        as_of: datetime | None = None,
        batch: int | None = None,
        stripe: int | None = None,
    ) -> None:
        self.projection = fresh(name)
        self.moment = until is not None or as_of is not None
        self.schema = schema or schema_for(name, known_at=until, as_of=as_of)
        self.until = until
        self.as_of = as_of
        self._store = ReadModels(url, schema=self.schema)
        self._reader = reader
        self._projector = Projector(
            reader, self._store, [self.projection], batch=batch or BATCH_EVENTS, until=until, as_of=as_of
        )
        self._stripes = Stripes(
            self._store, self.projection, self.schema, until=until, as_of=as_of, events=stripe
        )

    @property
    def stripes_peak_mb(self) -> float:
        """Most memory that the processes beside this one held, together; 0 where there were none."""
        return self._stripes.peak_mb

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The rebuild's own connection."""
        return self._store.connection

    def close(self) -> None:
        """Let go of lease and connection."""
        self._projector.release_leases()
        self._store.close()

    def build(self, *, again: bool = True, progress: Callable[[int, int], None] | None = None) -> int:
        """Fold the log into new tables; returns the position that was reached.

        Args:
            again: begin from zero; False goes on with a rebuild that was cut off.
            progress: called with (position, position to reach).

        Raises:
            Unavailable: another process is at this very rebuild.
        """
        conn = self.connection
        name = self.projection.name
        if again:
            drop(conn, name, self.schema)
        with conn.transaction():
            conn.execute("SELECT touchlog.make_build_schema(%s)", (self.schema,))
            conn.execute(
                sql.SQL("GRANT USAGE ON SCHEMA {} TO touchlog_analyst").format(sql.Identifier(self.schema))
            )
            make_tables(conn, self.projection, schema=self.schema, indexed=False)
            conn.execute(
                "INSERT INTO touchlog.projections (name, schema, version, state, until, as_of, tables) VALUES (%s, %s, %s, 'building', %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                (
                    name,
                    self.schema,
                    self.projection.version,
                    self.until,
                    self.as_of,
                    [table.name for table in tables_of(self.projection)],
                ),
            )
        if foldable_apart(self.projection) and self._stripes.worth_it():
            self._stripes.fold(progress)
        make_indexes(conn, self.projection, schema=self.schema, only_needed=True)
        if not self._projector.take_leases():
            raise Unavailable(
                f"Another process is at the rebuild of {name} in schema {self.schema}; wait for it to end."
            )
        gc.collect()
        gc.freeze()
        gc.disable()  # the fold makes millions of short-lived objects and no cycles: looking for some costs a fifth
        try:
            self._fold(progress)
            # Indexes at once over what is there cost a third of keeping them up row by row.
            make_indexes(conn, self.projection, schema=self.schema)
            self._fold(progress)
        finally:
            gc.enable()
            gc.unfreeze()
        self._stripes.finished()
        conn.execute(
            "UPDATE touchlog.projections SET state = %s WHERE name = %s AND schema = %s",
            ("moment" if self.moment else "ready", name, self.schema),
        )
        for table in tables_of(self.projection):
            conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(self.schema, table.name)))
        return self.position

    @property
    def position(self) -> int:
        """How far the rebuild has come."""
        row = self.connection.execute(
            "SELECT position FROM touchlog.projections WHERE name = %s AND schema = %s",
            (self.projection.name, self.schema),
        ).fetchone()
        return int(row[0]) if row else 0

    def _fold(self, progress: Callable[[int, int], None] | None) -> None:
        target = self.until if self.until is not None else self._reader.head().position
        renewed = time.monotonic()
        batches = 0
        while self._projector.step():
            batches += 1
            if batches % COLLECT_EVERY == 0:
                gc.collect()  # what failed may have left cycles
            if progress is not None:
                progress(next(iter(self._projector.positions.values())), target)
            if time.monotonic() - renewed > 2:  # saving a batch renews the lease; a slow one may not
                self._projector.renew_leases()
                renewed = time.monotonic()

    def _reach_live(self, live: psycopg.Connection[Any]) -> Tracking:
        """Lock the live read model's tracking row and fold up to its position: both stand at one position.

        Raises:
            NotFound: there is no live read model of this name.
            Refused: the rebuild lags too far behind.
        """
        row = live.execute(
            "SELECT name, schema, version, state, position, nullif(recorded_at, '-infinity'), epoch, holder, moved_at, until, as_of "
            "FROM touchlog.projections WHERE name = %s AND schema = 'read' FOR UPDATE",
            (self.projection.name,),
        ).fetchone()
        if row is None:
            raise NotFound(f"{self.projection.name} has no live read model yet; start `touchlog serve` once.")
        tracking = Tracking(*row)
        behind = tracking.position - self.position
        if behind > SWAP_WITHIN:
            raise Refused(
                f"The rebuild of {tracking.name} lags {behind:,} positions behind the read model that answers; at most {SWAP_WITHIN:,} "
                f"are caught up while that one waits. Run `touchlog rebuild {tracking.name}` again, then swap."
            )
        if behind > 0:
            if not self._projector.positions and not self._projector.take_leases():
                raise Unavailable(
                    f"Another process is at the rebuild in schema {self.schema}; wait for it to end."
                )
            self._projector.until = tracking.position
            try:
                self._projector.catch_up()
            finally:
                self._projector.until = self.until
        return tracking

    def catch_up(self) -> int:
        """Fold what came since; returns the position that was reached."""
        if not self._projector.positions and not self._projector.take_leases():
            raise Unavailable(
                f"Another process is at the rebuild in schema {self.schema}; wait for it to end."
            )
        self._projector.catch_up()
        return self.position

    def swap(self) -> tuple[str, float]:
        """Put the rebuilt tables in the place of those that answer; returns (schema of the old ones, seconds that waited).

        One transaction: a reader sees the old tables or the new ones. The old are kept until dropped.

        Raises:
            Refused: the rebuild lags too far behind, or shows another moment.
            Unavailable: what answers was read all the time.
        """
        if self.moment:
            raise Refused(
                "A rebuild that shows another moment cannot answer for now; rebuild without --known-at and --as-of."
            )
        name = self.projection.name
        retired = f"retired_{name}"[:63]
        live = self.connection.__class__.connect(
            self._store.url, autocommit=True, options=self._store.options
        )
        try:
            self.catch_up()
            if old_tables(
                live, self.projection
            ):  # none: they were set aside, as this code would misread them
                drop(live, name, retired)
            waited = self._swapped_in(live, retired)
        finally:
            live.close()
        log.info(
            "read_model_swapped", projection=name, version=self.projection.version, waited_s=round(waited, 3)
        )
        return retired, waited

    def _swapped_in(self, live: psycopg.Connection[Any], retired: str) -> float:
        """Swap as soon as nobody reads the old tables for a moment; returns the seconds that others waited.

        Whoever comes while it waits for them queues behind it, so it waits a little, lets those go first, and comes
        again. A rebuild may have taken hours: one long question is no reason to throw it away.

        Raises:
            Unavailable: they were read all the time; says by whom.
        """
        deadline, pause_s = time.monotonic() + SWAP_AGAIN_S, 0.1
        while True:
            started = time.monotonic()
            try:
                with live.transaction():
                    live.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_WAIT_MS}ms",))
                    self._swap_tables(live, retired)
                return time.monotonic() - started
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"{self.projection.name} is rebuilt but not swapped in: for {SWAP_AGAIN_S:.0f} s its read model was in use all the "
                        f"time{self._held_by(live)}. What answered goes on answering; let them end, then rebuild and swap again."
                    ) from None
            log.warning("swap_waits", projection=self.projection.name, reason=f"in use{self._held_by(live)}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)
            self.catch_up()

    def _held_by(self, live: psycopg.Connection[Any]) -> str:
        """Who holds the tables that answer, for people: `, held by process 12 of the database (psql, for 340 s)`."""
        rows = live.execute(
            "SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename), extract(epoch FROM clock_timestamp() - a.xact_start)::int "
            "FROM (SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE l.granted AND n.nspname = 'read' AND c.relname = ANY(%s)) h JOIN pg_stat_activity a USING (pid) "
            "WHERE a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '1 second' ORDER BY a.xact_start LIMIT 3",
            (old_tables(live, self.projection),),
        ).fetchall()
        held = [f"process {pid} of the database ({who}, for {span:,} s)" for pid, who, span in rows]
        return f", held by {', '.join(held)}" if held else ""

    def _swap_tables(self, live: psycopg.Connection[Any], retired: str) -> None:
        """Put the new tables in the place of the old, in the caller's transaction."""
        name = self.projection.name
        old = self._reach_live(live)
        live.execute("SELECT touchlog.make_build_schema(%s)", (retired,))
        for table in old_tables(live, self.projection):
            live.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                    sql.Identifier("read", table), sql.Identifier(retired)
                )
            )
        for each in tables_of(self.projection):
            live.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA read").format(sql.Identifier(self.schema, each.name))
            )
        # The new rows stand at the rebuild's position; whoever held a lease must take it anew.
        live.execute(
            "UPDATE touchlog.projections AS p SET version = b.version, tables = b.tables, position = b.position, recorded_at = b.recorded_at, "
            "epoch = p.epoch + 1, holder = NULL, leased_to = '-infinity', started_at = b.started_at, moved_at = clock_timestamp() "
            "FROM touchlog.projections b WHERE p.name = %s AND p.schema = 'read' AND b.name = p.name AND b.schema = %s",
            (name, self.schema),
        )
        live.execute("DELETE FROM touchlog.projections WHERE name = %s AND schema = %s", (name, self.schema))
        live.execute("DELETE FROM touchlog.parked WHERE name = %s AND schema = 'read'", (name,))
        live.execute(
            "UPDATE touchlog.parked SET schema = 'read' WHERE name = %s AND schema = %s",
            (name, self.schema),
        )
        live.execute(
            "INSERT INTO touchlog.projections (name, schema, version, state, position, recorded_at) VALUES (%s, %s, %s, 'retired', %s, coalesce(%s, '-infinity'))",
            (name, retired, old.version, old.position, old.recorded_at),
        )
        live.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(self.schema)))

    def compare(self, *, examples: int = 10) -> list[Difference]:
        """Row-level differences between the read model that answers and the rebuilt one, both at one position.

        The live projector waits only while the rebuild catches up; the comparison reads a snapshot.
        """
        self.catch_up()
        conn = psycopg.connect(self._store.url, autocommit=True, options=self._store.options)
        gate = psycopg.connect(self._store.url, autocommit=True, options=self._store.options)
        try:
            with conn.transaction():
                with gate.transaction():
                    self._reach_live(gate)
                    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    conn.execute("SELECT 1 FROM touchlog.projections LIMIT 1")  # the snapshot is taken here
                return [self._difference(conn, table.name, examples) for table in tables_of(self.projection)]
        finally:
            conn.close()
            gate.close()

    def _difference(self, conn: psycopg.Connection[Any], table: str, examples: int) -> Difference:
        live, built = sql.Identifier("read", table), sql.Identifier(self.schema, table)
        shown: list[tuple[str, dict[str, Any]]] = []
        counts = []
        for side, one, other in (("live", live, built), ("rebuilt", built, live)):
            only = sql.SQL("(SELECT * FROM {} EXCEPT ALL SELECT * FROM {})").format(one, other)
            row = conn.execute(sql.SQL("SELECT count(*) FROM {} d").format(only)).fetchone()
            assert row is not None
            counts.append(int(row[0]))
            if counts[-1] and examples:
                with conn.cursor(row_factory=psycopg.rows.dict_row) as curs:
                    curs.execute(sql.SQL("SELECT * FROM {} d LIMIT %s").format(only), (examples,))
                    shown += [(side, found) for found in curs.fetchall()]
        return Difference(table, counts[0], counts[1], shown)


def old_tables(conn: psycopg.Connection[Any], projection: Projection) -> list[str]:
    """The tables that the live read model has now; another version may have others."""
    kept = conn.execute(
        "SELECT tables FROM touchlog.projections WHERE name = %s AND schema = 'read'", (projection.name,)
    ).fetchone()
    wanted = {table.name for table in tables_of(projection)} | set(kept[0] or () if kept else ())
    rows = conn.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'read' AND c.relkind = 'r' AND c.relname = ANY(%s)",
        (list(wanted),),
    ).fetchall()
    return [relname for (relname,) in rows]


def drop(conn: psycopg.Connection[Any], name: str, schema: str) -> bool:
    """Drop a rebuilt, retired or moment's schema and its tracking; True when there was one.

    Raises:
        Refused: it is the one that answers, or no schema of a projection.
    """
    if schema == "read":
        raise Refused("The read model that answers is not dropped.")
    with conn.transaction():
        row = conn.execute(
            "DELETE FROM touchlog.projections WHERE name = %s AND schema = %s RETURNING state", (name, schema)
        ).fetchone()
        conn.execute("DELETE FROM touchlog.parked WHERE name = %s AND schema = %s", (name, schema))
        forget_stripes(conn, name, schema)
        if row is None:
            known = conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
            if known is None:
                return False
            if not schema.startswith(("build_", "retired_", f"{name}_")):
                raise Refused(f"Schema {schema} belongs to no rebuild of {name}; it was left alone.")
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
    return True
