"""Rows of a read model as PostgreSQL's binary COPY stream.

For each row type one packer is compiled from its fields; packing a row field by field through a
general dumper costs three times as much, and rebuilding a read model does little else.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec
import orjson

__all__ = ["HEADER", "TRAILER", "pack_known", "pack_rows", "row_packer"]

HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NULL = b"\xff\xff\xff\xff"
_int = Struct("!iq").pack
_float = Struct("!id").pack
_length = Struct("!i").pack
_array = Struct("!iiiIii").pack
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


_PACKERS: dict[Any, tuple[Callable[[Any], bytes], int]] = {
    str: (_text, 25),
    int: (lambda v: _int(8, v), 20),
    float: (lambda v: _float(8, v), 701),
    bool: (lambda v: b"\x00\x00\x00\x01\x01" if v else b"\x00\x00\x00\x01\x00", 16),
    bytes: (_bytes, 17),
    datetime: (_timestamp, 1184),
    UUID: (lambda v: b"\x00\x00\x00\x10" + v.bytes, 2950),
    dict: (_jsonb, 3802),
}


def _list_packer(inner: Callable[[Any], bytes], oid: int) -> Callable[[Any], bytes]:
    def pack(values: Sequence[Any]) -> bytes:
        if not values:
            return _length(12) + Struct("!iiI").pack(0, 0, oid)
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
    """One expression that packs a whole row, generated from its fields; *more* fields follow it."""
    names: dict[str, Any] = {"NULL": _NULL, "COUNT": Struct("!h").pack(len(_fields(row)) + more)}
    parts = ["COUNT"]
    for i, (field, pack, nullable) in enumerate(_fields(row)):
        names[f"p{i}"] = pack
        parts.append(f"(NULL if r.{field} is None else p{i}(r.{field}))" if nullable else f"p{i}(r.{field})")
    function: Callable[[Any], bytes] = eval(f"lambda r: b''.join(({', '.join(parts)},))", names)  # noqa: S307 - our own field names
    return function


def pack_rows(row: type[msgspec.Struct], rows: Sequence[Any]) -> bytes:
    """*rows*, all of type *row*, as one binary COPY stream in the order of the fields."""
    return b"".join((HEADER, *map(_packer(row), rows), TRAILER))


def pack_known(row: type[msgspec.Struct], rows: Iterable[tuple[Any, int, int | None]]) -> bytes:
    """Rows with the positions from and to which they are known, as one binary COPY stream."""
    pack = _packer(row, 2)
    parts = [HEADER]
    for one, since, to in rows:
        parts.append(pack(one))
        parts.append(_int(8, since))
        parts.append(_NULL if to is None else _int(8, to))
    parts.append(TRAILER)
    return b"".join(parts)


def row_packer(row: type[msgspec.Struct], more: int = 0) -> Callable[[Any], bytes]:
    """What packs one row; *more* fields, packed elsewhere, follow it."""
    return _packer(row, more)
