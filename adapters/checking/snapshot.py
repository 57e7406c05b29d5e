"""One snapshot of the database: where every read model stands in it, what is parked, and the steps of chosen events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.declared_tables import tables_of
from domain.correction import Amendment, amended
from domain.entry import Recorded, decode_body
from projections.projection import Effective, Projection, Step
from projections.steps import Steps

__all__ = ["Live", "Snapshot", "connected", "snapshot"]


class Live(NamedTuple):
    """A read model that answers, as a snapshot shows it."""

    projection: Projection
    position: int
    build: datetime
    parked: frozenset[tuple[int, int]]  # (position of the step, of the event it concerns)
    waiting: frozenset[str]  # their subjects


def connected(url: str, *, role: str | None = "touchlog_app") -> psycopg.Connection[Any]:
    """A connection for checking: one core at most, for its budget is one core's."""
    options = (
        "-c max_parallel_workers_per_gather=0 -c jit=off -c default_transaction_isolation=read\\ committed"
    )
    conn = psycopg.connect(
        url,
        autocommit=True,
        options=options + (f" -c role={role}" if role else ""),
        application_name="touchlog check",
    )
    conn.prepare_threshold = 0
    return conn


class Snapshot:
    """What one REPEATABLE READ transaction sees."""

    def __init__(self, conn: psycopg.Connection[Any], live: dict[str, Live]) -> None:
        self.conn = conn
        self.live = live
        self.amendments = StoredAmendments(lambda: conn)

    @property
    def position(self) -> int:
        """How far the farthest read model has come."""
        return max((each.position for each in self.live.values()), default=0)

    def steps(self, first: int, last: int) -> list[Step]:
        """What ever happened to the events from position *first* to *last*: recorded, corrected, taken back; in log order."""
        return self.steps_of(events_between(self.conn, first, last))

    def steps_at(self, positions: Iterable[int]) -> list[Step]:
        """The same for the events at *positions*."""
        with self.conn.cursor(binary=True) as curs:
            curs.execute(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s)",
                (list(positions),),
                prepare=True,
            )
            return self.steps_of(list(decoded(curs)))

    def steps_of(self, events: Sequence[tuple[Recorded, bytes]]) -> list[Step]:
        """What ever happened to *events*, in log order."""
        targets = {r.event.event_id for r, _ in events} | {
            r.event.import_id for r, _ in events if r.event.import_id
        }
        known = self.amendments.of(targets, self.position)
        found: list[Step] = []
        for recorded, body in events:
            stated = known.get(recorded.event.event_id, []) + known.get(recorded.event.import_id or "", [])
            if stated:
                found += _life(recorded, body, stated)
            else:
                found.append(Step(recorded.position, None, Effective(recorded, body)))
        found.sort(key=_place)
        return found

    def parked_steps(self, name: str) -> list[Step]:
        """The steps that are parked: the log has them, the read model not yet."""
        live = self.live[name]
        found: list[Step] = []
        for position in sorted({position for position, _ in live.parked}):
            events = events_between(self.conn, position, position)
            if events:
                found += [
                    s
                    for s in Steps(self.amendments, position - 1).of(events)[0]
                    if (s.position, s.concerns.position) in live.parked
                ]
        return found

    def seen_by(self, name: str, steps: Iterable[Step]) -> list[Step]:
        """Those of *steps* that the projection *name* has folded: of its classes, up to its position, and not parked."""
        live = self.live[name]
        steps = live.projection.handled(list(steps))
        if not live.parked:
            return [s for s in steps if s.position <= live.position]
        return [
            s
            for s in steps
            if s.position <= live.position and (s.position, s.concerns.position) not in live.parked
        ]


@contextmanager
def snapshot(conn: psycopg.Connection[Any], projections: Iterable[Projection]) -> Iterator[Snapshot]:
    """See the read models of *projections*, those of another version left out, as they are at one moment.

    The tables are held against being swapped out while they are compared; a projector goes on.
    """
    wanted = {p.name: p for p in projections}
    rows = conn.execute(
        "SELECT name, version FROM touchlog.projections WHERE schema = 'read' AND name = ANY(%s)",
        (list(wanted),),
    ).fetchall()
    live = {name: wanted[name] for name, version in rows if version == wanted[name].version}
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = [sql.Identifier("read", table.name) for p in live.values() for table in tables_of(p)]
        if tables:  # the snapshot is taken behind this: no swap comes between it and the tables
            conn.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(tables)),
                prepare=False,
            )
        parked: dict[str, set[tuple[int, int]]] = {}
        waiting: dict[str, set[str]] = {}
        for name, position, event, subject in conn.execute(
            "SELECT name, position, event, subject::text FROM touchlog.parked WHERE schema = 'read' AND name = ANY(%s)",
            (list(live),),
        ):
            parked.setdefault(name, set()).add((position, event))
            if subject is not None:
                waiting.setdefault(name, set()).add(subject)
        found = {
            name: Live(
                live[name], position, build, frozenset(parked.get(name, ())), frozenset(waiting.get(name, ()))
            )
            for name, version, position, build in conn.execute(
                "SELECT name, version, position, started_at FROM touchlog.projections "
                "WHERE schema = 'read' AND name = ANY(%s)",
                (list(live),),
            )
            if version == live[name].version
        }
        yield Snapshot(conn, found)


def events_between(conn: psycopg.Connection[Any], first: int, last: int) -> list[tuple[Recorded, bytes]]:
    """The events from position *first* to *last*, in log order."""
    with conn.cursor(binary=True) as curs:
        curs.execute(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position >= %s AND position <= %s ORDER BY position",
            (first, last),
            prepare=True,
        )
        return list(decoded(curs))


def decoded(rows: Iterable[tuple[int, datetime, bytes]]) -> Iterator[tuple[Recorded, bytes]]:
    """Rows of the log as events, without those of the library's raw path."""
    for position, recorded_at, body in rows:
        try:
            yield Recorded(position, recorded_at, decode_body(body)), body
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


def _place(step: Step) -> tuple[int, int]:
    return step.position, step.concerns.position


def _life(recorded: Recorded, body: bytes, stated: Sequence[Amendment]) -> Iterator[Step]:
    """The steps of one event that was corrected or taken back."""
    moments = {a.recorded.position for a in stated} | {a.undone for a in stated if a.undone is not None}

    def held(position: int) -> Effective | None:
        """As it held behind *position*."""
        by_then = [
            a if a.undone is None or a.undone <= position else msgspec.structs.replace(a, undone=None)
            for a in stated
            if a.recorded.position <= position
        ]
        whole = amended(recorded, by_then)
        return None if whole is None else Effective(whole[0], body, whole[1])

    before = held(recorded.position)
    if before is not None:
        yield Step(recorded.position, None, before)
    for position in sorted(moment for moment in moments if moment > recorded.position):
        after = held(position)
        if after != before:
            yield Step(position, before, after)
        before = after
