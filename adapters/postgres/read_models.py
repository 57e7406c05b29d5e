"""Read models in PostgreSQL: rows and tracking position in one transaction.

A read model lives in schema `read`. Exactly once: the transaction that changes rows moves the tracking
position from the one that was read, under the lease's epoch; whoever lost the lease changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import DataError, sql
from psycopg.errors import ProgramLimitExceeded

from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.binary_copy import Unpackable, pack_known, pack_rows
from adapters.postgres.declared_tables import declared_columns, make_tables, tables_of
from domain.errors import Unavailable
from projections.projection import Changes, Effective, Projection, Table
from projections.projector import Waiting

__all__ = ["LeaseLost", "ReadModels", "Tracking"]

log = structlog.get_logger()

R = TypeVar("R", bound=msgspec.Struct)

_MAKING = 7_021_905_117_300_002  # any number, the same in every touchlog
LEASE_S = 10
"""How long a projector that stops answering holds its projections, in seconds."""


class LeaseLost(Unavailable):
    """Another projector has taken this projection over; nothing of the last batch was written."""


class Tracking(NamedTuple):
    """How far a projection has come."""

    name: str
    schema: str
    version: int
    state: str
    position: int
    recorded_at: datetime | None
    epoch: int
    holder: str | None
    moved_at: datetime
    until: int | None
    as_of: datetime | None


_TRACKING = "name, schema, version, state, position, nullif(recorded_at, '-infinity'), epoch, holder, moved_at, until, as_of"


class Parked(NamedTuple):
    """An event that a projection could not fold, or that waits behind one of its subject."""

    name: str
    schema: str
    position: int
    event: int  # position of the event that it concerns
    subject: UUID | None
    reason: str
    culprit: bool
    parked_at: datetime


@cache
def _made_of(row: type[R]) -> Callable[[Sequence[Any]], R]:
    """What makes a row of the values of its columns; compiled, because most rows are made here."""
    fields = ", ".join(f"{field}=v[{i}]" for i, field in enumerate(row.__struct_fields__))
    function: Callable[[Sequence[Any]], R] = eval(f"lambda v: R({fields})", {"R": row})  # noqa: S307 - our own field names
    return function


class _Load:
    def __init__(
        self,
        conn: psycopg.Connection[Any],
        changes: Changes,
        schema: str,
        amendments: StoredAmendments,
        until: int,
    ) -> None:
        self._conn = conn
        self._changes = changes
        self._schema = schema
        self._amendments = amendments
        self._until = until

    def effective(self, positions: Iterable[int]) -> list[Effective]:
        return self._amendments.effective(positions, self._until)

    def of_subjects(self, subjects: Iterable[Hashable]) -> list[Effective]:
        wanted = list(subjects)
        # The histories may be another projector's, and behind: what they have not seen is looked for in the log.
        row = self._conn.execute(
            "SELECT position FROM touchlog.projections WHERE name = 'contact_history' AND schema = 'read'",
            prepare=True,
        ).fetchone()
        seen = row[0] if row else 0
        found: set[int] = set()
        if row is not None:
            rows = self._conn.execute(
                "SELECT position FROM read.contact_history WHERE subject = ANY(%(subjects)s) AND position <= %(until)s "
                "UNION SELECT event FROM touchlog.parked WHERE name = 'contact_history' AND schema = 'read' AND position <= %(until)s",
                {"subjects": wanted, "until": self._until},
                prepare=True,
            ).fetchall()
            found.update(p for (p,) in rows)
        if seen < self._until:
            rows = self._conn.execute(
                "SELECT position FROM touchpoint_log.events WHERE position > %s AND position <= %s "
                "AND EXISTS (SELECT FROM unnest(%s::bytea[]) AS s (name) WHERE position(s.name IN body) > 0)",
                (seen, self._until, [str(subject).encode() for subject in wanted]),
            ).fetchall()
            found.update(p for (p,) in rows)
        return self._amendments.effective(found, self._until)

    def where(self, table: Table[R], column: str | tuple[str, ...], values: Iterable[Hashable]) -> list[R]:
        columns = table.columns
        wanted: list[Any] = list(values)
        if not wanted:
            return []
        if isinstance(column, str):
            condition = sql.SQL("{} = ANY(%s)").format(sql.Identifier(column))
            parameters = [wanted]
        else:
            kinds = dict(declared_columns(table))
            condition = sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(
                sql.SQL(", ").join(map(sql.Identifier, column)),
                sql.SQL(", ").join(sql.SQL("%s::" + kinds[c] + "[]") for c in column),
            )
            parameters = [list(each) for each in zip(*wanted, strict=True)]
        with self._conn.cursor(binary=True) as curs:
            curs.execute(
                sql.SQL("SELECT {} FROM {} WHERE {}{}").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.Identifier(self._schema, table.name),
                    condition,
                    sql.SQL(" AND known_to IS NULL" if table.known else ""),
                ),
                parameters,
                prepare=True,
            )
            rows = list(map(_made_of(table.row), curs.fetchall()))
        if table.key:
            for row in rows:
                self._changes.brought_in(table, row)
        return rows


class ReadModels:
    """The read models of one database, for one projector.

    Args:
        url: where; rows are written as the role `touchlog_app`.
    """

    def __init__(self, url: str, *, schema: str = "read", role: str | None = "touchlog_app") -> None:
        self.options = "-c default_transaction_isolation=read\\ committed" + (
            f" -c role={role}" if role else ""
        )
        self.url = url
        self._schema = schema
        self._conn: psycopg.Connection[Any] | None = None
        self._made: set[tuple[str, int]] = set()
        self._refused: dict[str, int] = {}
        self.holder = f"{os.uname().nodename if hasattr(os, 'uname') else 'host'}:{os.getpid()}"

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The projector's one connection, made anew when it was lost."""
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self.url, autocommit=True, options=self.options)
            self._conn.prepare_threshold = 0
        return self._conn

    def close(self) -> None:
        """Let go of the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    @property
    def amendments(self) -> StoredAmendments:
        """What is known of corrections and retractions."""
        return StoredAmendments(lambda: self.connection)

    def take(self, projection: Projection) -> Tracking | None:
        """Take the lease of *projection*, or None while another projector holds it.

        In schema `read` the tables are made at the first take; elsewhere whoever rebuilds has made them.
        """
        if self._schema == "read" and not self._prepared(projection):
            return None
        row = self.connection.execute(
            "UPDATE touchlog.projections SET epoch = epoch + 1, holder = %s, leased_to = clock_timestamp() + make_interval(secs => %s) "  # noqa: S608 - names of our own
            "WHERE name = %s AND schema = %s AND version = %s AND (leased_to < clock_timestamp() OR holder = %s) "
            "RETURNING " + _TRACKING,
            (self.holder, LEASE_S, projection.name, self._schema, projection.version, self.holder),
        ).fetchone()
        return Tracking(*row) if row else None

    def _prepared(self, projection: Projection) -> bool:
        """Make the tables of *projection* in schema `read`; False where those of another version answer.

        Once a process: looking for an index waits for whoever writes, and a projector that waits for its turn
        asks again and again.
        """
        conn = self.connection
        row = conn.execute(
            "SELECT version FROM touchlog.projections WHERE name = %s AND schema = 'read'", (projection.name,)
        ).fetchone()
        if row is not None and row[0] != projection.version:
            if self._refused.get(projection.name) != row[0]:
                self._refused[projection.name] = row[0]
                log.error(
                    "read_model_is_of_another_version",
                    projection=projection.name,
                    version=row[0],
                    wanted_version=projection.version,
                    advice=f"this version is built beside it and swapped in by `serve`, or by touchlog rebuild {projection.name} --swap",
                )
            return False
        if row is None or (projection.name, projection.version) not in self._made:
            with conn.transaction():
                # Two projectors that start at once do not make the same table at once.
                conn.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
                try:
                    with conn.transaction():
                        make_tables(conn, projection)
                except (KeyError, TypeError, AttributeError, NameError, psycopg.ProgrammingError) as wrong:
                    self._tell_unmade(projection, wrong)
                    return False
                conn.execute(
                    "INSERT INTO touchlog.projections (name, version, tables) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    (projection.name, projection.version, [t.name for t in tables_of(projection)]),
                )
            self._made.add((projection.name, projection.version))
        return True

    def _tell_unmade(self, projection: Projection, wrong: Exception) -> None:
        """Log, once, that the tables of a projection cannot be made; the other projections go on."""
        if self._refused.get(projection.name) != -1:
            self._refused[projection.name] = -1
            log.error(
                "read_model_not_made",
                projection=projection.name,
                reason=f"{type(wrong).__name__}: {wrong}"[:300],
                advice="its row types name what is no column: mend its declaration and start again",
            )

    def steal(self, projection: Projection) -> Tracking:
        """Take the lease whoever holds it: the other's next write fails, and nothing of it is kept."""
        row = self.connection.execute(
            "UPDATE touchlog.projections SET epoch = epoch + 1, holder = %s, leased_to = clock_timestamp() + make_interval(secs => %s) "  # noqa: S608 - names of our own
            "WHERE name = %s AND schema = %s RETURNING " + _TRACKING,
            (self.holder, LEASE_S, projection.name, self._schema),
        ).fetchone()
        assert row is not None
        return Tracking(*row)

    def release(self, tracking: Tracking) -> None:
        """Give the lease back, so that another projector need not wait for its end."""
        self.connection.execute(
            "UPDATE touchlog.projections SET leased_to = '-infinity', holder = NULL WHERE name = %s AND schema = %s AND epoch = %s",
            (tracking.name, tracking.schema, tracking.epoch),
        )

    def renew(self, tracking: Tracking) -> None:
        """Keep the lease while there is nothing to do.

        Raises:
            LeaseLost: another projector has it.
        """
        done = self.connection.execute(
            "UPDATE touchlog.projections SET leased_to = clock_timestamp() + make_interval(secs => %s) WHERE name = %s AND schema = %s AND epoch = %s",
            (LEASE_S, tracking.name, tracking.schema, tracking.epoch),
        )
        if done.rowcount != 1:
            raise LeaseLost(f"{tracking.name}: another projector holds the lease.")

    def load(self, changes: Changes, until: int) -> _Load:
        """How a projection's `prepare` asks for rows and for events at or below position *until*."""
        return _Load(self.connection, changes, self._schema, self.amendments, until)

    def save(
        self,
        moves: Sequence[tuple[Tracking, Projection, Changes]],
        position: int,
        recorded_at: datetime | None,
        *,
        amendments: Sequence[tuple[str, int]] = (),
        parked: Sequence[Waiting] = (),
        healed: Sequence[Waiting] = (),
    ) -> list[Tracking]:
        """Write the changes of a batch and move every tracking position to *position*: all or nothing.

        Args:
            amendments: (target, position) of the corrections and retractions among the batch.
            parked: what could not be folded.
            healed: what was parked and is folded now.

        Raises:
            LeaseLost: a tracking position or an epoch is not the one that was read.
        """
        conn = self.connection
        moved = []
        with conn.transaction():
            self.amendments.note(conn, amendments)
            for tracking, projection, changes in moves:
                row = conn.execute(
                    "UPDATE touchlog.projections SET position = %s, recorded_at = coalesce(%s, recorded_at), moved_at = clock_timestamp(), "
                    "leased_to = clock_timestamp() + make_interval(secs => %s) "
                    "WHERE name = %s AND schema = %s AND epoch = %s AND position = %s RETURNING moved_at",
                    (
                        position,
                        recorded_at,
                        LEASE_S,
                        tracking.name,
                        tracking.schema,
                        tracking.epoch,
                        tracking.position,
                    ),
                ).fetchone()
                if row is None:
                    raise LeaseLost(
                        f"{tracking.name}: another projector holds the lease; nothing of this batch was written."
                    )
                for table in tables_of(projection):
                    self._write(conn, table, changes)
                moved.append(
                    tracking._replace(
                        position=position, recorded_at=recorded_at or tracking.recorded_at, moved_at=row[0]
                    )
                )
            for one in parked:
                conn.execute(
                    "INSERT INTO touchlog.parked (name, schema, position, event, subject, reason, culprit) VALUES (%s, %s, %s, %s, %s, %s, %s) "
                    "ON CONFLICT (name, schema, position, event) DO UPDATE SET reason = excluded.reason, culprit = excluded.culprit, retry = false",
                    (
                        one.projection,
                        self._schema,
                        one.position,
                        one.event,
                        one.subject,
                        one.reason,
                        one.culprit,
                    ),
                )
            for one in healed:
                conn.execute(
                    "DELETE FROM touchlog.parked WHERE name = %s AND schema = %s AND position = %s AND event = %s",
                    (one.projection, self._schema, one.position, one.event),
                )
        return moved

    def try_out(self, projection: Projection, changes: Changes) -> None:
        """Write *changes* and take them back; raises what `save` would."""
        conn = self.connection
        with conn.transaction(force_rollback=True):
            for table in tables_of(projection):
                self._write(conn, table, changes)

    def cannot_hold(self, failed: Exception) -> bool:
        """Whether a row was refused for what it holds, so that trying again is of no use: a value of another kind than its column's, a number beyond it, a key beyond its index."""
        return isinstance(failed, Unpackable | OverflowError | DataError | ProgramLimitExceeded)

    def is_away(self, failed: Exception) -> bool:
        """Whether the database did not answer."""
        return isinstance(failed, psycopg.OperationalError) and not isinstance(failed, ProgramLimitExceeded)

    def parked(self, name: str | None = None, *, retry: bool | None = None) -> list[Parked]:
        """What is parked, in log order."""
        rows = self.connection.execute(
            "SELECT name, schema, position, event, subject, reason, culprit, parked_at FROM touchlog.parked "
            "WHERE schema = %s AND (%s::text IS NULL OR name = %s) AND (%s::boolean IS NULL OR retry = %s) ORDER BY name, position, event",
            (self._schema, name, name, retry, retry),
        ).fetchall()
        return [Parked(*row) for row in rows]

    def ask_retry(self, name: str | None = None) -> int:
        """Ask that what is parked be tried again; returns how many events that are."""
        return self.connection.execute(
            "UPDATE touchlog.parked SET retry = true WHERE schema = %s AND (%s::text IS NULL OR name = %s)",
            (self._schema, name, name),
        ).rowcount

    def _write(self, conn: psycopg.Connection[Any], table: Table[Any], changes: Changes) -> None:
        name = sql.Identifier(self._schema, table.name)
        appended = changes.appended.get(table.name)
        if appended:
            self._copy(conn, table, pack_rows(table.row, appended), name)
        if table.known:
            closed = changes.closed_rows(table)
            if closed:
                conn.execute(
                    sql.SQL(
                        "UPDATE {} AS t SET known_to = c.ends FROM unnest(%s::bigint[], %s::bigint[]) AS c (position, ends) "
                        "WHERE t.position = c.position AND t.known_to IS NULL"
                    ).format(name),
                    ([p for p, _ in closed], [to for _, to in closed]),
                )
            rows = pack_known(table.row, changes.known_rows(table)) if table.name in changes.known else None
            if rows:
                self._copy(conn, table, rows, name, ("known_from", "known_to"))
            return
        if table.sums:
            self._add(conn, table, changes)
            return
        if not table.key:
            return
        changed, gone = changes.written(table)
        keys = sql.SQL(", ").join(map(sql.Identifier, table.key))
        if gone:
            with conn.cursor() as curs:
                curs.executemany(
                    sql.SQL("DELETE FROM {} WHERE ({}) = ({})").format(
                        name, keys, sql.SQL(", ").join([sql.Placeholder()] * len(table.key))
                    ),
                    gone,
                )
        if changed:
            draft = sql.Identifier(f"draft_{table.name}")
            conn.execute(
                sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(
                    draft, name
                )
            )
            self._copy(conn, table, pack_rows(table.row, changed), draft)
            others = [c for c in table.columns if c not in table.key]
            conn.execute(
                sql.SQL("INSERT INTO {} SELECT * FROM {} ON CONFLICT ({}) DO {}").format(
                    name,
                    draft,
                    keys,
                    sql.SQL("UPDATE SET {}").format(
                        sql.SQL(", ").join(
                            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in others
                        )
                    )
                    if others
                    else sql.SQL("NOTHING"),
                )
            )

    def _add(self, conn: psycopg.Connection[Any], table: Table[Any], changes: Changes) -> None:
        sums = {k: v for k, v in changes.added.get(table.name, {}).items() if any(v)}
        if not sums:
            return
        name = sql.Identifier(self._schema, table.name)
        keys = sql.SQL(", ").join(map(sql.Identifier, table.key))
        draft = sql.Identifier(f"draft_{table.name}")
        conn.execute(
            sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(
                draft, name
            )
        )
        rows = [
            table.row(**dict(zip(table.key, key, strict=True)), **dict(zip(table.sums, amounts, strict=True)))
            for key, amounts in sums.items()
        ]
        self._copy(conn, table, pack_rows(table.row, rows), draft)
        conn.execute(
            sql.SQL("INSERT INTO {} AS t SELECT * FROM {} ON CONFLICT ({}) DO UPDATE SET {}").format(
                name,
                draft,
                keys,
                sql.SQL(", ").join(
                    sql.SQL("{0} = t.{0} + excluded.{0}").format(sql.Identifier(c)) for c in table.sums
                ),
            )
        )
        if any(amount < 0 for amounts in sums.values() for amount in amounts):
            conn.execute(
                sql.SQL("DELETE FROM {} WHERE {}").format(
                    name,
                    sql.SQL(" AND ").join(sql.SQL("{} = 0").format(sql.Identifier(c)) for c in table.sums),
                )
            )

    @staticmethod
    def _copy(
        conn: psycopg.Connection[Any],
        table: Table[Any],
        rows: Iterable[bytes],
        into: sql.Composable,
        more: tuple[str, ...] = (),
    ) -> None:
        with (
            conn.cursor() as curs,
            curs.copy(
                sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
                    into, sql.SQL(", ").join(map(sql.Identifier, (*table.columns, *more)))
                )
            ) as copy,
        ):
            for piece in rows:
                copy.write(piece)

    def tracking(self) -> Iterator[Tracking]:
        """How far every projection has come."""
        for row in self.connection.execute(
            f"SELECT {_TRACKING} FROM touchlog.projections ORDER BY name, schema"  # noqa: S608 - names of our own
        ):
            yield Tracking(*row)
