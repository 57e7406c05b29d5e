"""Binary array parameters, packed in one pass.

PostgreSQL's wire form of a one-dimensional array without nulls: ndim, flags, element oid, length,
lower bound, then every element behind its length. Packing whole columns by `join` costs a fifth of
psycopg's general dumper, and the append path sends nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    parts = [_HEAD.pack(1, 0, oid, len(values), 1)]
    for value in values:
        parts.append(_LENGTH(len(value)))
        parts.append(value)
    return BinaryArray(oid, b"".join(parts))


def byteas(values: Sequence[bytes]) -> BinaryArray:
    """`bytea[]`."""
    return _variable(_BYTEA, values)


def texts(values: Sequence[str]) -> BinaryArray:
    """`text[]`."""
    return _variable(_TEXT, [v.encode() for v in values])


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
    gap = b"\x00\x00\x00\x08"
    packed = Struct(f"!{len(values)}q").pack(*values)
    return BinaryArray(
        _INT8,
        _HEAD.pack(1, 0, _INT8, len(values), 1)
        + gap
        + gap.join(packed[i : i + 8] for i in range(0, len(packed), 8)),
    )


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
