"""Rebuilds as things: asked for, run by one process, told to everybody; one of a projection at a time.

The command line runs what it asks for itself. What is asked over HTTP, and the read models of another version
than the code's, are run by a child of the projectors part (bin/processes/rebuilder.py): no request waits for them, and one
that was cut off, by a kill or a restart, goes on from where it stood.

What answers after a deploy of another version
    The read model of version n answers while n+1 is built beside it; it stands still, as its code is gone, and
    every answer names the position that it has seen. A question that waits for a later one (`Touchlog-After`,
    `known_at`) is told 503 with the lag. Where version n+1 asks for a column or table that n has not, that question
    alone is told 503 with the lag (`adapters/postgres/reading_pool.py`); the others are answered. Where a column kept
    its name and changed its type, the old rows could be misread: they are set aside at once (`set_aside_misread`), and
    all questions of that read model wait for the swap. A column whose meaning changes therefore takes a new name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import orjson
import psycopg
import structlog
from psycopg import sql

from adapters.postgres.declared_tables import declared_columns, tables_of
from adapters.postgres.schema import APP_ROLE
from adapters.rebuilds.rebuild import schema_for
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem, Underway
from projections.projection import PROJECTIONS, Projection

__all__ = [
    "RebuildRun",
    "Running",
    "ask",
    "connected",
    "failed_lately",
    "next_run",
    "outgrown",
    "running",
    "runs",
    "set_aside_misread",
]

log = structlog.get_logger()

_LOCK = 7_021_905
"""The first half of the advisory lock that whoever runs a rebuild holds; the second is the rebuild's id."""
_AGAIN_AFTER = "interval '3 seconds'"
"""How long a rebuild that was cut off rests, lest one that is killed each time is started each second."""


class RebuildRun(msgspec.Struct, frozen=True, kw_only=True):
    """One rebuild, as it is told."""

    id: int
    name: str
    schema: str
    state: str  # asked, running, cut_off, done, failed
    known_at: int | None
    as_of: str | None
    compare: bool
    swap: bool
    goes_on: bool  # when cut off it goes on by itself
    asked_by: str
    asked_at: str
    started_at: str | None
    ended_at: str | None
    position: int | None
    target: int
    progress: float | None  # 0 to 1
    events_per_s: int | None
    remaining_s: float | None
    outcome: dict[str, Any] | None
    reason: str | None


class Running(NamedTuple):
    """A rebuild that this process runs."""

    id: int
    name: str
    known_at: int | None
    as_of: datetime | None
    compare: bool
    swap: bool
    asked_by: str
    goes_on_from: bool  # False: begins at zero
    connection: psycopg.Connection[Any]

    def done(self, outcome: dict[str, Any]) -> None:
        """It came to its end."""
        self.connection.execute(
            "UPDATE touchlog.rebuilds SET state = 'done', ended_at = clock_timestamp(), outcome = %s WHERE id = %s",
            (orjson.dumps(outcome, default=str).decode(), self.id),
        )


_HELD = f"""EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = {_LOCK} AND l.objid = r.id::oid
                    AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""  # noqa: S608 - names of our own
_RUNS = f"""
SELECT r.id, r.name, r.schema, CASE WHEN r.state = 'running' AND NOT {_HELD} THEN 'cut_off' ELSE r.state END,
       r.known_at, r.as_of, r.compare, r.swap, r.goes_on, r.asked_by, r.asked_at, r.started_at, r.ended_at,
       coalesce(p.position, (r.outcome->>'position')::bigint), coalesce(r.known_at, h.position),
       CASE WHEN r.state = 'running' AND p.position > r.from_position
            THEN (p.position - r.from_position) / greatest(extract(epoch FROM clock_timestamp() - r.started_at), 0.001) END::float8,
       r.outcome, r.reason
  FROM touchlog.rebuilds r CROSS JOIN touchpoint_log.head h
       LEFT JOIN touchlog.projections p ON p.name = r.name AND p.schema = r.schema
 WHERE r.state IN ('asked', 'running') OR r.id IN (SELECT max(n.id) FROM touchlog.rebuilds n GROUP BY n.name)
 ORDER BY r.state NOT IN ('asked', 'running'), r.id DESC
"""  # noqa: S608 - names of our own


def connected(url: str) -> psycopg.Connection[Any]:
    """A connection of its own, as the application."""
    return psycopg.connect(url, autocommit=True, options=f"-c role={APP_ROLE}")


def runs(conn: psycopg.Connection[Any]) -> list[RebuildRun]:
    """What is under way, and of every projection the rebuild that was the last."""
    return [_told(row) for row in conn.execute(_RUNS).fetchall()]


def _told(row: tuple[Any, ...]) -> RebuildRun:
    state, position, target, rate = row[3], row[13], row[14], row[15]
    active = state in ("asked", "running", "cut_off")
    rate = rate if state == "running" else None
    return RebuildRun(
        id=row[0],
        name=row[1],
        schema=row[2],
        state=state,
        known_at=row[4],
        as_of=moment(row[5]) if row[5] else None,
        compare=row[6],
        swap=row[7],
        goes_on=row[8],
        asked_by=row[9],
        asked_at=moment(row[10]),
        started_at=moment(row[11]) if row[11] else None,
        ended_at=moment(row[12]) if row[12] else None,
        position=position,
        target=target,
        progress=round(min(1.0, (position or 0) / target), 4) if active and target else None,
        events_per_s=round(rate) if rate else None,
        remaining_s=round(max(0, target - position) / rate, 1) if rate else None,
        outcome=row[16],
        reason=row[17],
    )


def ask(
    conn: psycopg.Connection[Any],
    name: str,
    *,
    by: str,
    known_at: int | None = None,
    as_of: datetime | None = None,
    compare: bool = False,
    swap: bool = False,
    goes_on: bool = True,
) -> int:
    """Ask for a rebuild; returns its id.

    Args:
        by: who asks: a key's id, `cli:…`, or `serve` for a version that was deployed.
        goes_on: the projectors part runs it; False: the caller does.

    Raises:
        NotFound: no projection has this name.
        Invalid: a rebuild that shows another moment cannot answer for now.
        Underway: one of this projection is under way; says which.
    """
    known = {row[0] for row in conn.execute("SELECT DISTINCT name FROM touchlog.projections")} | set(
        PROJECTIONS
    )
    if name not in known:
        raise NotFound(f"There is no projection '{name[:60]}'; there are: {', '.join(sorted(known))}.")
    if (known_at is not None or as_of is not None) and (swap or compare):
        raise Invalid(
            [
                Problem(
                    "/swap" if swap else "/compare",
                    "A rebuild that shows another moment cannot answer for now, nor equal what does; leave out known_at and as_of, or this.",
                    "another_moment",
                )
            ]
        )
    with conn.transaction():
        conn.execute(
            "UPDATE touchlog.rebuilds r SET state = 'failed', ended_at = clock_timestamp(), "  # noqa: S608 - names of our own
            "reason = 'It was cut off: the command that ran it ended. Start it again.' "
            "WHERE r.name = %s AND NOT r.goes_on AND (r.state = 'running' OR r.state = 'asked' AND r.asked_at < clock_timestamp() - interval '1 minute') "
            f"AND NOT {_HELD}",
            (name,),
        )
        row = conn.execute(
            "INSERT INTO touchlog.rebuilds (name, schema, known_at, as_of, compare, swap, goes_on, asked_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (name) WHERE state IN ('asked', 'running') DO NOTHING RETURNING id",
            (
                name,
                schema_for(name, known_at=known_at, as_of=as_of),
                known_at,
                as_of,
                compare,
                swap,
                goes_on,
                by,
            ),
        ).fetchone()
    if row is None:
        raise _underway(conn, name)
    return int(row[0])


def _underway(conn: psycopg.Connection[Any], name: str) -> Underway:
    mine = [r for r in runs(conn) if r.name == name and r.state in ("asked", "running", "cut_off")]
    if not mine:  # it ended just now
        return Underway(f"A rebuild of {name} ended just now; ask again.")
    (one,) = mine
    how = {
        "asked": "is about to start",
        "running": f"stands at position {one.position or 0:,} of {one.target:,}",
        "cut_off": f"was cut off at position {one.position or 0:,} and goes on in a moment, if the projectors part runs",
    }[one.state]
    return Underway(
        f"Rebuild {one.id} of {name} into schema {one.schema}, asked for by {one.asked_by} at {one.asked_at}, {how}. "
        "Wait for it to end: GET /v1/projections or `touchlog projections` shows it."
    )


def next_run(conn: psycopg.Connection[Any]) -> int | None:
    """The rebuild that the projectors part is to run next: asked for, or cut off."""
    row = conn.execute(
        "SELECT r.id FROM touchlog.rebuilds r WHERE r.goes_on AND r.state IN ('asked', 'running') "  # noqa: S608 - names of our own
        f"AND coalesce(r.started_at, '-infinity') < clock_timestamp() - {_AGAIN_AFTER} AND NOT {_HELD} ORDER BY r.id LIMIT 1"
    ).fetchone()
    return int(row[0]) if row else None


@contextmanager
def running(url: str, run_id: int) -> Iterator[Running]:
    """Run the rebuild *run_id* in this block; what the block raises is kept as the reason of its failure.

    One that goes on by itself stays under way when the process is told to end or the database is lost.

    Raises:
        NotFound: it is not under way.
        Underway: another process is at it.
    """
    with connected(url) as conn:
        held = conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK, run_id)).fetchone()
        if not held or not held[0]:
            raise Underway(f"Another process is at rebuild {run_id}; `touchlog projections` shows it.")
        row = conn.execute(
            "SELECT name, known_at, as_of, compare, swap, asked_by, goes_on, schema, state FROM touchlog.rebuilds "
            "WHERE id = %s AND state IN ('asked', 'running')",
            (run_id,),
        ).fetchone()
        if row is None:
            raise NotFound(f"Rebuild {run_id} is not under way; `touchlog projections` shows what is.")
        name, goes_on, schema = row[0], row[6], row[7]
        version = PROJECTIONS[name].version if name in PROJECTIONS else None
        # Nobody else is at this schema, so whatever lease stands there is that of the one that was cut off.
        built = conn.execute(
            "UPDATE touchlog.projections SET leased_to = '-infinity', holder = NULL WHERE name = %s AND schema = %s AND version = %s "
            "AND state IN ('building', 'ready') RETURNING position",
            (name, schema, version),
        ).fetchone()
        from_ = built[0] if built and row[8] == "running" else None
        conn.execute(
            "UPDATE touchlog.rebuilds SET state = 'running', started_at = clock_timestamp(), from_position = %s WHERE id = %s",
            (from_ or 0, run_id),
        )
        log.info("rebuild_runs", rebuild=run_id, projection=name, schema=schema, from_position=from_ or 0)
        try:
            yield Running(
                id=run_id,
                name=name,
                known_at=row[1],
                as_of=row[2],
                compare=row[3],
                swap=row[4],
                asked_by=row[5],
                goes_on_from=from_ is not None,
                connection=conn,
            )
        except BaseException as error:
            left = not isinstance(error, Exception) or isinstance(error, psycopg.OperationalError)
            if not (left and goes_on):
                reason = "It was cut off; start it again." if left else str(error) or type(error).__name__
                with suppress(psycopg.Error):
                    conn.execute(
                        "UPDATE touchlog.rebuilds SET state = 'failed', ended_at = clock_timestamp(), reason = %s WHERE id = %s",
                        (reason[:1000], run_id),
                    )
            raise


# -- versions ------------------------------------------------------------------------------------------------


def outgrown(conn: psycopg.Connection[Any]) -> list[Projection]:
    """The projections of this code whose read model is of another version and nobody keeps up."""
    rows = conn.execute(
        "SELECT name, version FROM touchlog.projections WHERE schema = 'read' AND leased_to < clock_timestamp() ORDER BY name"
    ).fetchall()
    return [PROJECTIONS[n] for n, version in rows if n in PROJECTIONS and PROJECTIONS[n].version != version]


def failed_lately(conn: psycopg.Connection[Any], name: str) -> bool:
    """Whether a rebuild for a deployed version failed within the last minute: it is not tried again at once."""
    row = conn.execute(
        "SELECT FROM touchlog.rebuilds WHERE name = %s AND state = 'failed' AND asked_by = 'serve' AND ended_at > clock_timestamp() - interval '1 minute'",
        (name,),
    ).fetchone()
    return row is not None


def set_aside_misread(conn: psycopg.Connection[Any]) -> list[str]:
    """Set read models of another version aside whose rows this code would misread; returns their names.

    A column that kept its name and changed its type: the tables go to `retired_<name>`, where the swap leaves them.
    """
    found = []
    for projection in outgrown(conn):
        wanted = {
            (table.name, column): kind
            for table in tables_of(projection)
            for column, kind in declared_columns(table)
        }
        there = conn.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "WHERE c.relnamespace = 'read'::regnamespace AND c.relkind = 'r' AND c.relname = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped",
            ([table.name for table in tables_of(projection)],),
        ).fetchall()
        misread = [f"{t}.{c}" for t, c, kind in there if wanted.get((t, c), kind) != kind]
        if not misread:
            continue
        retired = f"retired_{projection.name}"[:63]
        with conn.transaction():
            conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(retired)))
            conn.execute(
                "DELETE FROM touchlog.projections WHERE name = %s AND schema = %s", (projection.name, retired)
            )
            conn.execute("SELECT touchlog.make_build_schema(%s)", (retired,))
            for table in sorted({t for t, _, _ in there}):
                conn.execute(
                    sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                        sql.Identifier("read", table), sql.Identifier(retired)
                    )
                )
        log.warning(
            "read_model_set_aside",
            projection=projection.name,
            columns=misread,
            schema=retired,
            advice="its columns have other types than this version's; questions wait until the new one is built",
        )
        found.append(projection.name)
    return found
