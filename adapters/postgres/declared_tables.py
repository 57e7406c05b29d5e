"""Tables of read models, made from what a projection declares: columns, comments, rights, keys and indexes."""

from __future__ import annotations

import types
import typing
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from projections.projection import Projection, Table

__all__ = ["declared_columns", "make_indexes", "make_tables", "tables_of"]

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


def declared_columns(table: Table[Any]) -> list[tuple[str, str]]:
    """(column, SQL type) of a table as PostgreSQL names them."""
    hints = typing.get_type_hints(table.row, include_extras=True)
    found = [(field, _column(hint)[0].replace(' COLLATE "C"', "")) for field, hint in hints.items()]
    found += [("known_from", "bigint"), ("known_to", "bigint")] if table.known else []
    return [(c, "timestamp with time zone" if k == "timestamptz" else k) for c, k in found]


def tables_of(projection: Projection) -> tuple[Table[Any], ...]:
    """The tables of a projection with those that the projector keeps beside them."""
    return (*projection.tables, *projection.beside)


def make_tables(
    conn: psycopg.Connection[Any], projection: Projection, *, schema: str = "read", indexed: bool = True
) -> None:
    """Create the tables and comments of *projection* where they do not exist, and unless told not to, their indexes."""
    for table in tables_of(projection):
        name = sql.Identifier(schema, table.name)
        columns: list[sql.Composable] = []
        comments = []
        hints = typing.get_type_hints(table.row, include_extras=True)
        for field, hint in hints.items():
            kind, nullable, comment = _column(hint)
            columns.append(
                sql.SQL("{} {}{}").format(
                    sql.Identifier(field), sql.SQL(kind), sql.SQL("" if nullable else " NOT NULL")
                )
            )
            if comment:
                comments.append((field, comment))
        if table.known:
            columns.append(sql.SQL("known_from bigint NOT NULL, known_to bigint"))
            comments.append(("known_from", "Position from which this was known"))
            comments.append(
                (
                    "known_to",
                    "Position from which it was no longer so: corrected or taken back; null: it still is",
                )
            )
        conn.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(name, sql.SQL(", ").join(columns)))
        doc = (table.row.__doc__ or "").strip().splitlines()[0]
        conn.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(doc)))
        for field, comment in comments:
            conn.execute(
                sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                    sql.Identifier(schema, table.name, field), sql.Literal(comment)
                )
            )
        # Analysts read what holds no personal field: sealed bytes are of no use to them.
        plain = [f for f, h in hints.items() if not _column(h)[0].startswith("bytea")]
        plain += ["known_from", "known_to"] if table.known else []
        conn.execute(
            sql.SQL("GRANT SELECT ({}) ON {} TO touchlog_analyst").format(
                sql.SQL(", ").join(map(sql.Identifier, plain)), name
            )
        )
    if indexed:
        make_indexes(conn, projection, schema=schema)


def make_indexes(
    conn: psycopg.Connection[Any], projection: Projection, *, schema: str = "read", only_needed: bool = False
) -> None:
    """Create the keys and indexes of *projection* where they do not exist.

    Args:
        only_needed: those that folding needs (keys, and what finds rows by position), for a rebuild.
    """
    for table in tables_of(projection):
        name = sql.Identifier(schema, table.name)
        if table.key:
            conn.execute(
                sql.SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})").format(
                    sql.Identifier(f"{table.name}_key"),
                    name,
                    sql.SQL(", ").join(map(sql.Identifier, table.key)),
                )
            )
        for index in table.indexes:
            by_position = index.method == "brin" or index.columns == ("position",)
            if only_needed and not table.key and not by_position:
                continue
            title = f"{table.name}_{'_'.join(index.columns)}"[:60]
            conn.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING {} ({})").format(
                    sql.Identifier(title),
                    name,
                    sql.SQL(index.method),
                    sql.SQL(", ").join(map(sql.Identifier, index.columns)),
                )
            )
