"""Rows of a read model as PostgreSQL's binary COPY stream.

For each row type one packer is compiled from its fields; packing a row field by field through a
general dumper costs three times as much, and rebuilding a read model does little else.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec
import orjson

__all__ = ["HEADER", "TRAILER", "Unpackable", "pack_known", "pack_rows", "row_packer"]

HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NULL = b"\xff\xff\xff\xff"
_int = Struct("!iq").pack
_float = Struct("!id").pack
_length = Struct("!i").pack
_array = Struct("!iiiIii").pack
_open = Struct("!iqi").pack
_closed = Struct("!iqiq").pack
_UTC = UTC


def _text(value: str) -> bytes:
    raw = value.encode()
    return _length(len(raw)) + raw


def _bytes(value: bytes) -> bytes:
    return _length(len(value)) + value


def _timestamp(value: datetime) -> bytes:
    span = value - _EPOCH
    return _int(8, (span.days * 86400 + span.seconds) * 1_000_000 + span.microseconds)


def _jsonb(value: Any) -> bytes:
    raw = b"\x01" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return _length(len(raw)) + raw


def _integer(value: int) -> bytes:
    return _int(8, value)


def _uuid(value: UUID) -> bytes:
    return b"\x00\x00\x00\x10" + value.bytes


class _Lengths(dict[int, bytes]):
    """The four bytes before a value, by its length; those of short values are at hand."""

    def __missing__(self, length: int) -> bytes:
        return _length(length)


_LENGTHS = _Lengths({length: _length(length) for length in range(4096)})

PIECE_ROWS = 200
"""Rows packed at a time: the server works on a piece while the next one is packed."""

_PACKERS: dict[Any, tuple[Callable[[Any], bytes], int]] = {
    str: (_text, 25),
    int: (_integer, 20),
    float: (lambda v: _float(8, v), 701),
    bool: (lambda v: b"\x00\x00\x00\x01\x01" if v else b"\x00\x00\x00\x01\x00", 16),
    bytes: (_bytes, 17),
    datetime: (_timestamp, 1184),
    UUID: (_uuid, 2950),
    dict: (_jsonb, 3802),
}

_FIXED: dict[Callable[[Any], bytes], tuple[str, str]] = {
    _integer: ("iq", "8, {}"),
    _uuid: ("i16s", "16, {}.bytes"),
    _timestamp: (
        "iq",
        "8, ((t := {} - EPOCH).days * 86400 + t.seconds) * 1000000 + t.microseconds",
    ),
}
"""Values that always have the same length: the code of `struct`, and the expression that gives length and value."""


def _list_packer(inner: Callable[[Any], bytes], oid: int) -> Callable[[Any], bytes]:
    empty = _length(12) + Struct("!iiI").pack(0, 0, oid)

    def pack(values: Sequence[Any]) -> bytes:
        if not values:
            return empty
        parts = b"".join(map(inner, values))
        return _array(20 + len(parts), 1, 0, oid, len(values), 1) + parts

    return pack


@cache
def _fields(row: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[Any], bytes], bool], ...]:
    found = []
    for name, declared in typing.get_type_hints(row).items():
        nullable, hint = False, declared
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            members = [a for a in typing.get_args(hint) if a is not type(None)]
            nullable = len(members) < len(typing.get_args(hint))
            hint = members[0]
        origin = typing.get_origin(hint) or hint
        if origin in (list, tuple):
            pack, oid = _PACKERS[typing.get_args(hint)[0]]
            found.append((name, _list_packer(pack, oid), nullable))
        else:
            found.append((name, _PACKERS[origin][0], nullable))
    return tuple(found)


@cache
def _packer(row: type[msgspec.Struct], more: int = 0) -> Callable[[Any], bytes]:
    """One expression that packs a whole row, generated from its fields; *more* fields follow it.

    What has a fixed length is packed together with its neighbours, and a text with the length before it: a call
    for each field would cost as much again.
    """
    names: dict[str, Any] = {"NULL": _NULL, "L": _LENGTHS, "EPOCH": _EPOCH}
    fields = _fields(row)
    parts: list[str] = []
    code, values = "!h", [str(len(fields) + more)]

    def packed_together() -> None:
        nonlocal code, values
        if values:
            names[f"s{len(parts)}"] = Struct(code).pack
            parts.append(f"s{len(parts)}({', '.join(values)})")
        code, values = "!", []

    for i, (field, pack, nullable) in enumerate(fields):
        fixed = None if nullable else _FIXED.get(pack)
        if fixed is not None:
            code += fixed[0]
            values.append(fixed[1].format(f"r.{field}"))
            continue
        packed_together()
        names[f"p{i}"] = pack
        if nullable:
            parts.append(f"(NULL if r.{field} is None else p{i}(r.{field}))")
        elif pack is _text:
            parts.append(f"L[len(v := r.{field}.encode())], v")
        elif pack is _bytes:
            parts.append(f"L[len(v := r.{field})], v")
        else:
            parts.append(f"p{i}(r.{field})")
    packed_together()
    function: Callable[[Any], bytes] = eval(f"lambda r: b''.join(({', '.join(parts)},))", names)  # noqa: S307 - our own field names
    return function


class Unpackable(Exception):
    """A row holds a value that its column cannot be given: of another kind, or beyond what such a column takes."""


def pack_rows(row: type[msgspec.Struct], rows: Iterable[Any]) -> Iterator[bytes]:
    """*rows*, all of type *row*, as one binary COPY stream in the order of the fields, piece by piece.

    Raises:
        Unpackable: one of the rows.
    """
    yield HEADER
    pack = _packer(row)
    following = iter(rows)
    while some := [*islice(following, PIECE_ROWS)]:
        try:
            piece = b"".join(map(pack, some))
        except Exception as failed:
            raise _unpackable(row, failed) from failed
        yield piece
    yield TRAILER


def pack_known(row: type[msgspec.Struct], rows: Iterable[tuple[Any, int, int | None]]) -> Iterator[bytes]:
    """Rows with the positions from and to which they are known, as one binary COPY stream, piece by piece.

    Raises:
        Unpackable: one of the rows.
    """
    yield HEADER
    pack = _packer(row, 2)
    following = iter(rows)
    while some := [*islice(following, PIECE_ROWS)]:
        parts: list[bytes] = []
        add = parts.append
        try:
            for one, since, to in some:
                add(pack(one))
                add(_open(8, since, -1) if to is None else _closed(8, since, 8, to))
        except Exception as failed:
            raise _unpackable(row, failed) from failed
        yield b"".join(parts)
    yield TRAILER


def _unpackable(row: type[msgspec.Struct], failed: Exception) -> Unpackable:
    return Unpackable(f"a {row.__name__} cannot be packed: {type(failed).__name__}: {failed}")


def row_packer(row: type[msgspec.Struct], more: int = 0) -> Callable[[Any], bytes]:
    """What packs one row; *more* fields, packed elsewhere, follow it."""
    return _packer(row, more)
