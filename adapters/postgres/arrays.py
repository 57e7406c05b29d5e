"""Binary array parameters, packed in one pass.

PostgreSQL's wire form of a one-dimensional array without nulls: ndim, flags, element oid, length,
lower bound, then every element behind its length. Packing whole columns by `join` costs a fifth of
psycopg's general dumper, and the append path sends nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from psycopg import adapters
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ["BinaryArray", "bigints", "byteas", "texts", "uuids"]

_HEAD = Struct("!iiIii")
_LENGTH = Struct("!i").pack
_UUID, _BYTEA, _TEXT, _INT8 = 2950, 17, 25, 20
_ARRAY_OF = {_UUID: 2951, _BYTEA: 1001, _TEXT: 1009, _INT8: 1016}
_EMPTY = {oid: Struct("!iiI").pack(0, 0, oid) for oid in _ARRAY_OF}


class BinaryArray:
    """A packed array and the oid of its type."""

    __slots__ = ("data", "oid")

    def __init__(self, oid: int, data: bytes) -> None:
        self.oid = oid
        self.data = data


def _variable(oid: int, values: Sequence[bytes]) -> BinaryArray:
    if not values:
        return BinaryArray(oid, _EMPTY[oid])
    parts: list[bytes] = [b""] * (2 * len(values))
    parts[::2] = map(_LENGTH, map(len, values))
    parts[1::2] = values
    return BinaryArray(oid, _HEAD.pack(1, 0, oid, len(values), 1) + b"".join(parts))


def byteas(values: Sequence[bytes]) -> BinaryArray:
    """`bytea[]`."""
    return _variable(_BYTEA, values)


def texts(values: Sequence[str]) -> BinaryArray:
    """`text[]`."""
    if not values:
        return BinaryArray(_TEXT, _EMPTY[_TEXT])
    return BinaryArray(_TEXT, _HEAD.pack(1, 0, _TEXT, len(values), 1) + b"".join(map(_text, values)))


@lru_cache(1_000)  # names of types, kinds and namespaces: a few, over and over
def _text(value: str) -> bytes:
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def uuids(values: Sequence[bytes]) -> BinaryArray:
    """`uuid[]`, each value the 16 bytes of a UUID."""
    if not values:
        return BinaryArray(_UUID, _EMPTY[_UUID])
    gap = b"\x00\x00\x00\x10"
    return BinaryArray(_UUID, _HEAD.pack(1, 0, _UUID, len(values), 1) + gap + gap.join(values))


def bigints(values: Sequence[int]) -> BinaryArray:
    """`bigint[]`."""
    if not values:
        return BinaryArray(_INT8, _EMPTY[_INT8])
    return BinaryArray(_INT8, _HEAD.pack(1, 0, _INT8, len(values), 1) + b"".join(map(_bigint, values)))


@lru_cache(1_000)  # versions, nearly all of them 1
def _bigint(value: int) -> bytes:
    return b"\x00\x00\x00\x08" + value.to_bytes(8, "big", signed=True)


class _BinaryArrayDumper(Dumper):
    format = Format.BINARY

    def get_key(self, obj: BinaryArray, format: object) -> tuple[type, int]:  # type: ignore[override]
        return (self.cls, obj.oid)

    def upgrade(self, obj: BinaryArray, format: object) -> Dumper:
        dumper = type(self)(self.cls)
        dumper.oid = _ARRAY_OF[obj.oid]
        return dumper

    def dump(self, obj: BinaryArray) -> Buffer | None:
        return obj.data


adapters.register_dumper(BinaryArray, _BinaryArrayDumper)
