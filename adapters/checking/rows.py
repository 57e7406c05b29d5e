"""Rows as bytes: what is stored and what follows from the log, both in PostgreSQL's binary COPY form."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from adapters.postgres.binary_copy import HEADER, TRAILER, row_packer
from projections.projection import Table

__all__ = ["Found", "compared", "copied", "stored_known", "stored_structs"]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
KNOWN = ("known_from", "known_to")


class Found(NamedTuple):
    """One row that is not what follows from the log; names it, tells no value."""

    table: str
    bucket: str
    kind: str  # missing, extra, changed
    key: dict[str, Any]
    columns: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """For logs and tables."""
        found: dict[str, Any] = {"kind": self.kind, "key": self.key}
        return found | {"columns": list(self.columns)} if self.columns else found


def copied(conn: psycopg.Connection[Any], question: sql.Composable) -> Iterator[bytes]:
    """The rows of *question*, each as the bytes of binary COPY."""
    with (
        conn.cursor() as curs,
        curs.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(question)) as copy,
    ):
        for data in copy:
            row = bytes(data)
            if row.startswith(HEADER[:11]):
                row = row[len(HEADER) :]
            if row and row != TRAILER:
                yield row


def stored_known(
    conn: psycopg.Connection[Any], table: Table[Any], first: int | None, last: int | None
) -> Iterable[bytes]:
    """The stored rows of the events from position *first* to *last*, in COPY form; None: no bound."""
    columns = (*table.columns, *KNOWN)
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if first is not None:
        conditions.append(sql.SQL("position >= {}").format(sql.Literal(first)))
    if last is not None:
        conditions.append(sql.SQL("position <= {}").format(sql.Literal(last)))
    question = sql.SQL("SELECT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.Identifier("read", table.name),
        sql.SQL(" AND ").join(conditions),
    )
    if not _has_json(table.row):
        return copied(conn, question)
    # PostgreSQL orders and spaces JSON in its own way: what is stored is packed as the projector packs it.
    pack = row_packer(table.row, 2)
    with conn.cursor(binary=True) as curs:
        curs.execute(question)
        return [
            known_row(pack, table.row(**dict(zip(table.columns, row[:-2], strict=True))), row[-2], row[-1])
            for row in curs
        ]


def stored_structs(
    conn: psycopg.Connection[Any], table: Table[Any], column: str, values: Sequence[Any]
) -> list[Any]:
    """The stored rows whose *column* is one of *values*; of a table of what was known when, those known now."""
    with conn.cursor(binary=True) as curs:
        curs.execute(
            sql.SQL("SELECT {} FROM {} WHERE {} = ANY(%s){}").format(
                sql.SQL(", ").join(map(sql.Identifier, table.columns)),
                sql.Identifier("read", table.name),
                sql.Identifier(column),
                sql.SQL(" AND known_to IS NULL" if table.known else ""),
            ),
            (list(values),),
            prepare=True,
        )
        return [table.row(**dict(zip(table.columns, row, strict=True))) for row in curs]


def known_row(pack: Callable[[Any], bytes], row: Any, since: int, to: int | None) -> bytes:
    """One row with the positions between which it is known."""
    end = b"\xff\xff\xff\xff" if to is None else b"\x00\x00\x00\x08" + to.to_bytes(8, "big", signed=True)
    return pack(row) + b"\x00\x00\x00\x08" + since.to_bytes(8, "big", signed=True) + end


def compared(
    table: Table[Any], bucket: str, expected: Iterable[bytes], stored: Iterable[bytes]
) -> list[Found]:
    """The rows of a table with `known_from` and `known_to` that only one side has, named."""
    left = Counter(expected)
    extra: list[bytes] = []
    for raw in stored:
        if left.get(raw):
            left[raw] -= 1
        else:
            extra.append(raw)
    missing = list(left.elements())
    if not missing and not extra:
        return []
    columns = (*table.columns, *KNOWN)
    by_position: dict[Any, list[dict[str, bytes | None]]] = {}
    at = columns.index("position")
    for surplus in extra:
        fields = _fields(surplus)
        by_position.setdefault(fields[at], []).append(dict(zip(columns, fields, strict=True)))
    found = []
    for lacking in missing:
        row = dict(zip(columns, _fields(lacking), strict=True))
        others = by_position.get(row["position"])
        if others:  # the same event has a row that should not be: it is this one, changed
            other = others.pop()
            differing = tuple(c for c in columns if row[c] != other[c])
            found.append(Found(table.name, bucket, "changed", _key(table, other), differing))
        else:
            found.append(Found(table.name, bucket, "missing", _key(table, row)))
    found += [
        Found(table.name, bucket, "extra", _key(table, left_over))
        for left_overs in by_position.values()
        for left_over in left_overs
    ]
    return sorted(found, key=lambda f: str(f.key))


def _fields(row: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(row[:2], "big")):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        at += 4
        found.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return found


def _key(table: Table[Any], row: dict[str, bytes | None]) -> dict[str, Any]:
    names = [c for c in ("subject", "reference", "position") if c in row]
    hints = typing.get_type_hints(table.row)
    return {c: value_of(row[c], hints.get(c, int)) for c in dict.fromkeys((*table.key, *names))}


def value_of(raw: bytes | None, hint: Any) -> Any:
    """The value of one field of a key, as it may be printed."""
    if raw is None:
        return None
    members = [h for h in typing.get_args(hint) if h is not type(None)]
    hint = members[0] if members else hint
    if hint is int:
        return int.from_bytes(raw, "big", signed=True)
    if hint is UUID:
        return str(UUID(bytes=raw))
    if hint is str:
        return raw.decode()
    if hint is datetime:
        moment = _EPOCH + timedelta(microseconds=int.from_bytes(raw, "big", signed=True))
        return moment.isoformat()
    return raw.hex()


def _has_json(row: type[Any]) -> bool:
    return any(
        h is dict
        or typing.get_origin(h) is dict
        or dict in [typing.get_origin(a) or a for a in typing.get_args(h)]
        for h in typing.get_type_hints(row).values()
    )
