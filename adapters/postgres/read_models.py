"""Read models in PostgreSQL: tables made from declarations, rows and tracking position in one transaction.

A read model lives in schema `read`. Exactly once: the transaction that changes rows moves the tracking
position from the one that was read, under the lease's epoch; whoever lost the lease changes nothing.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from adapters.postgres.binary_copy import pack_rows
from domain.errors import Unavailable
from projections.projection import Changes, Projection, Table

__all__ = ["LeaseLost", "ReadModels", "Tracking", "make_tables"]

R = TypeVar("R", bound=msgspec.Struct)

_SQL_TYPES: dict[Any, str] = {
    str: 'text COLLATE "C"',
    int: "bigint",
    float: "double precision",
    bool: "boolean",
    bytes: "bytea",
    datetime: "timestamptz",
    UUID: "uuid",
    dict: "jsonb",
}
LEASE_S = 10
"""How long a projector that stops answering holds its projections, in seconds."""


class LeaseLost(Unavailable):
    """Another projector has taken this projection over; nothing of the last batch was written."""


class Tracking(NamedTuple):
    """How far a projection has come."""

    name: str
    version: int
    state: str
    position: int
    recorded_at: datetime | None
    epoch: int
    holder: str | None
    moved_at: datetime


def _column(hint: Any) -> tuple[str, bool, str]:
    """(SQL type, nullable, comment) of one field of a row."""
    comment = ""
    if typing.get_origin(hint) is typing.Annotated:
        hint, *marks = typing.get_args(hint)
        comment = next((m.description for m in marks if isinstance(m, msgspec.Meta) and m.description), "")
    nullable = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [a for a in typing.get_args(hint) if a is not type(None)]
        nullable = len(members) < len(typing.get_args(hint))
        hint = members[0]
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple):
        inner = _SQL_TYPES[typing.get_args(hint)[0]]
        return inner.replace(' COLLATE "C"', "") + "[]", nullable, comment
    return _SQL_TYPES[origin], nullable, comment


def make_tables(conn: psycopg.Connection[Any], projection: Projection, *, schema: str = "read") -> None:
    """Create the tables, indexes and comments of *projection* where they do not exist, and its tracking row."""
    for table in projection.tables:
        name = sql.Identifier(schema, table.name)
        columns = []
        comments = []
        for field, hint in typing.get_type_hints(table.row, include_extras=True).items():
            kind, nullable, comment = _column(hint)
            columns.append(
                sql.SQL("{} {}{}").format(
                    sql.Identifier(field), sql.SQL(kind), sql.SQL("" if nullable else " NOT NULL")
                )
            )
            if comment:
                comments.append(
                    sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                        sql.Identifier(schema, table.name, field), sql.Literal(comment)
                    )
                )
        if table.key:
            columns.append(
                sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, table.key)))
            )
        conn.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(name, sql.SQL(", ").join(columns)))
        for index in table.indexes:
            title = f"{table.name}_{'_'.join(index.columns)}"[:60]
            conn.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {} ({})").format(
                    sql.Identifier(title),
                    name,
                    sql.SQL(index.method),
                    sql.SQL(", ").join(map(sql.Identifier, index.columns)),
                )
            )
        doc = (table.row.__doc__ or "").strip().splitlines()[0]
        conn.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(doc)))
        for statement in comments:
            conn.execute(statement)
        # Analysts read what holds no personal field: sealed bytes are of no use to them.
        plain = [
            f
            for f, h in typing.get_type_hints(table.row, include_extras=True).items()
            if _column(h)[0] != "bytea"
        ]
        conn.execute(
            sql.SQL("GRANT SELECT ({}) ON {} TO touchlog_analyst").format(
                sql.SQL(", ").join(map(sql.Identifier, plain)), name
            )
        )
    conn.execute(
        "INSERT INTO touchlog.projections (name, version) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (projection.name, projection.version),
    )


class _Load:
    def __init__(self, conn: psycopg.Connection[Any], changes: Changes, schema: str) -> None:
        self._conn = conn
        self._changes = changes
        self._schema = schema

    def where(self, table: Table[R], column: str, values: Iterable[Hashable]) -> list[R]:
        columns = table.columns
        with self._conn.cursor(binary=True) as curs:
            curs.execute(
                sql.SQL("SELECT {} FROM {} WHERE {} = ANY(%s)").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.Identifier(self._schema, table.name),
                    sql.Identifier(column),
                ),
                (list(values),),
                prepare=True,
            )
            rows = [table.row(**dict(zip(columns, row, strict=True))) for row in curs]
        for row in rows:
            self._changes.brought_in(table, row)
        return rows


class ReadModels:
    """The read models of one database, for one projector.

    Args:
        url: where; rows are written as the role `touchlog_app`.
    """

    def __init__(self, url: str, *, schema: str = "read", role: str | None = "touchlog_app") -> None:
        self._options = "-c default_transaction_isolation=read\\ committed" + (
            f" -c role={role}" if role else ""
        )
        self._url = url
        self._schema = schema
        self._conn: psycopg.Connection[Any] | None = None
        self._made: set[tuple[str, int]] = set()
        self.holder = f"{os.uname().nodename if hasattr(os, 'uname') else 'host'}:{os.getpid()}"

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The projector's one connection, made anew when it was lost."""
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self._url, autocommit=True, options=self._options)
            self._conn.prepare_threshold = 0
        return self._conn

    def close(self) -> None:
        """Let go of the connection."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def take(self, projection: Projection) -> Tracking | None:
        """Take the lease of *projection*, or None while another projector holds it."""
        conn = self.connection
        if (projection.name, projection.version) not in self._made:
            # Once a process: looking for an index waits for whoever writes, and a projector that waits for its
            # turn asks again and again.
            with conn.transaction():
                make_tables(conn, projection, schema=self._schema)
            self._made.add((projection.name, projection.version))
        row = conn.execute(
            "UPDATE touchlog.projections SET epoch = epoch + 1, holder = %s, leased_to = clock_timestamp() + make_interval(secs => %s) "
            "WHERE name = %s AND version = %s AND (leased_to < clock_timestamp() OR holder = %s) "
            "RETURNING name, version, state, position, nullif(recorded_at, '-infinity'), epoch, holder, moved_at",
            (self.holder, LEASE_S, projection.name, projection.version, self.holder),
        ).fetchone()
        return Tracking(*row) if row else None

    def release(self, tracking: Tracking) -> None:
        """Give the lease back, so that another projector need not wait for its end."""
        self.connection.execute(
            "UPDATE touchlog.projections SET leased_to = '-infinity', holder = NULL WHERE name = %s AND version = %s AND epoch = %s",
            (tracking.name, tracking.version, tracking.epoch),
        )

    def renew(self, tracking: Tracking) -> None:
        """Keep the lease while there is nothing to do.

        Raises:
            LeaseLost: another projector has it.
        """
        done = self.connection.execute(
            "UPDATE touchlog.projections SET leased_to = clock_timestamp() + make_interval(secs => %s) WHERE name = %s AND version = %s AND epoch = %s",
            (LEASE_S, tracking.name, tracking.version, tracking.epoch),
        )
        if done.rowcount != 1:
            raise LeaseLost(f"{tracking.name}: another projector holds the lease.")

    def load(self, changes: Changes) -> _Load:
        """How a projection's `prepare` asks for rows."""
        return _Load(self.connection, changes, self._schema)

    def save(
        self, moves: Sequence[tuple[Tracking, Projection, Changes]], position: int, recorded_at: datetime
    ) -> list[Tracking]:
        """Write the changes of a batch and move every tracking position to *position*: all or nothing.

        Raises:
            LeaseLost: a tracking position or an epoch is not the one that was read.
        """
        conn = self.connection
        moved = []
        with conn.transaction():
            for tracking, projection, changes in moves:
                row = conn.execute(
                    "UPDATE touchlog.projections SET position = %s, recorded_at = %s, moved_at = clock_timestamp(), "
                    "leased_to = clock_timestamp() + make_interval(secs => %s) "
                    "WHERE name = %s AND version = %s AND epoch = %s AND position = %s RETURNING moved_at",
                    (
                        position,
                        recorded_at,
                        LEASE_S,
                        tracking.name,
                        tracking.version,
                        tracking.epoch,
                        tracking.position,
                    ),
                ).fetchone()
                if row is None:
                    raise LeaseLost(
                        f"{tracking.name}: another projector holds the lease; nothing of this batch was written."
                    )
                for table in projection.tables:
                    self._write(conn, table, changes)
                moved.append(tracking._replace(position=position, recorded_at=recorded_at, moved_at=row[0]))
        return moved

    def _write(self, conn: psycopg.Connection[Any], table: Table[Any], changes: Changes) -> None:
        appended = changes.appended.get(table.name)
        if appended:
            self._copy(conn, table, appended, sql.Identifier(self._schema, table.name))
        if not table.key:
            return
        changed, gone = changes.written(table)
        name = sql.Identifier(self._schema, table.name)
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
            self._copy(conn, table, changed, draft)
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

    @staticmethod
    def _copy(
        conn: psycopg.Connection[Any], table: Table[Any], rows: Sequence[Any], into: sql.Composable
    ) -> None:
        with (
            conn.cursor() as curs,
            curs.copy(
                sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
                    into, sql.SQL(", ").join(map(sql.Identifier, table.columns))
                )
            ) as copy,
        ):
            copy.write(pack_rows(table.row, rows))

    def tracking(self) -> Iterator[Tracking]:
        """How far every projection has come."""
        for row in self.connection.execute(
            "SELECT name, version, state, position, nullif(recorded_at, '-infinity'), epoch, holder, moved_at FROM touchlog.projections ORDER BY name, version"
        ):
            yield Tracking(*row)
