"""Sums by key: a hash by bucket of keys, carried along with the log and asked of the stored rows.

A sum follows from every event of its key, wherever in the log they are; none can be folded from a part
of it. So each key has a random number that follows from it, and a bucket's hash is the total of
amount times number over its keys: it can be carried along with the log in constant memory,
whatever the order, and the stored rows give it in one reading. Rows are named by a second reading of
the log that keeps the keys of the buckets that differ.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from adapters.checking.rows import Found, copied, value_of
from adapters.checking.snapshot import Snapshot, events_between
from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.binary_copy import row_packer
from projections.changes import Key
from projections.projection import Changes, Counting, Step, Table
from projections.steps import Steps

__all__ = ["BUCKETS", "Sums", "differing", "differing_rows"]

BUCKETS = 4096
READ_EVENTS = 10_000
_WRAP = 2**64
_quad = Struct(">4xq")


class Sums:
    """The hash by bucket of one projection's sums as the log gives them at a position.

    Args:
        only: keep the sums themselves, of the keys of these buckets.
    """

    def __init__(
        self,
        projection: Counting,
        position: int = 0,
        kept: bytes | None = None,
        *,
        only: frozenset[int] | None = None,
    ) -> None:
        self.projection = projection
        (self.table,) = projection.tables
        self.position = position
        self.hashes = array("Q", kept or bytes(8 * BUCKETS))
        self.amounts: dict[Key, list[int]] = {}
        self._only = only
        self._numbers = Numbers(self.table)
        self._steps: Steps | None = None

    def kept(self) -> bytes:
        """The hashes as bytes."""
        return self.hashes.tobytes()

    def advance(self, conn: psycopg.Connection[Any], until: int, *, limit: int = READ_EVENTS) -> bool:
        """Add the next events of the log, at most *limit*, up to position *until*; True when that is reached."""
        last = min(until, self.position + limit)
        if last > self.position:
            if self._steps is None:
                self._steps = Steps(StoredAmendments(lambda: conn), self.position)
            events = events_between(conn, self.position + 1, last)
            steps = self._steps.of(events)[0] if events else []
            self.add(steps, +1)
            self.position = last
        return self.position >= until

    def add(self, steps: Sequence[Step], sign: int) -> None:
        """Add what *steps* count, or take it away again; what cannot be folded counts nothing."""
        steps = self.projection.handled(steps)
        for key, amounts in counted(self.projection, self.table, steps).items():
            bucket, numbers = self._numbers.of_key(key)
            if self._only is None:
                total = sum(a * n for a, n in zip(amounts, numbers, strict=True))
                self.hashes[bucket] = (self.hashes[bucket] + sign * total) % _WRAP
            elif bucket in self._only:
                before = self.amounts.setdefault(key, [0] * len(amounts))
                for i, amount in enumerate(amounts):
                    before[i] += sign * amount


class Numbers:
    """The bucket of a key, and a random number for each of its sums: all follow from the key alone."""

    def __init__(self, table: Table[Any]) -> None:
        self._sums = len(table.sums)
        fields = [(c, t) for c, t in msgspec_fields(table) if c in table.key]
        key_row = msgspec.defstruct("KeyRow", sorted(fields, key=lambda f: table.key.index(f[0])))
        self._make, self._pack = key_row, row_packer(key_row)

        self._known: dict[Key, tuple[int, tuple[int, ...]]] = {}

    def bytes_of(self, key: Key) -> bytes:
        """A key as binary COPY gives it."""
        return self._pack(self._make(*key))[2:]

    def of_key(self, key: Key) -> tuple[int, tuple[int, ...]]:
        """For a key as the fold gives it."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) > 200_000:
                self._known.clear()
            found = self._known[key] = self.of_bytes(self.bytes_of(key))
        return found

    def of_bytes(self, key: bytes) -> tuple[int, tuple[int, ...]]:
        """For a key as binary COPY gives it."""
        raw = (
            blake2b(key, digest_size=8 * (1 + self._sums)).digest()
            if self._sums < 8
            else b"".join(
                blake2b(key, digest_size=8, salt=bytes([i])).digest() for i in range(1 + self._sums)
            )
        )
        numbers = [int.from_bytes(raw[at : at + 8], "big") | 1 for at in range(8, len(raw), 8)]
        return int.from_bytes(raw[:8], "big") % BUCKETS, tuple(numbers)


def msgspec_fields(table: Table[Any]) -> list[tuple[str, Any]]:
    """The declared fields of a table's row."""
    return [(f.name, f.type) for f in msgspec.structs.fields(table.row)]


def counted(projection: Counting, table: Table[Any], steps: Sequence[Step]) -> dict[Key, list[int]]:
    """What *steps* add to each key."""
    changes = Changes()
    try:
        for step in steps:
            projection.fold(step, changes)
    except Exception:  # noqa: BLE001 - what cannot be folded is parked by the projector, and counts nothing
        changes = Changes()
        for step in steps:
            alone = Changes()
            try:
                projection.fold(step, alone)
            except Exception:  # noqa: BLE001, S112
                continue
            mine = changes.added.setdefault(table.name, {})
            for key, amounts in alone.added.get(table.name, {}).items():
                mine[key] = [a + b for a, b in zip(mine.get(key, [0] * len(amounts)), amounts, strict=True)]
    return changes.added.get(table.name, {})


def stored_sums(conn: psycopg.Connection[Any], table: Table[Any]) -> Iterable[tuple[bytes, tuple[int, ...]]]:
    """(key as binary COPY gives it, sums) of every stored row."""
    width = 12 * len(table.sums)
    read = Struct(">" + "4xq" * len(table.sums)).unpack
    for row in copied(
        conn,
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, (*table.key, *table.sums))),
            sql.Identifier("read", table.name),
        ),
    ):
        yield row[2:-width], read(row[-width:])


def differing(snap: Snapshot, sums: Sums) -> frozenset[int]:
    """The buckets whose stored rows are not those of the log; *sums* is brought to the snapshot's position first."""
    live = snap.live[sums.projection.name]
    while not sums.advance(snap.conn, live.position):
        pass
    stored = array("Q", bytes(8 * BUCKETS))
    numbers = Numbers(sums.table)
    strays = set()
    for key, amounts in stored_sums(snap.conn, sums.table):
        bucket, own = numbers.of_bytes(key)
        stored[bucket] = (stored[bucket] + sum(a * n for a, n in zip(amounts, own, strict=True))) % _WRAP
        if not any(amounts):
            strays.add(bucket)  # a row of nothing: it should not be there
    parked = Sums(sums.projection)
    parked.add(snap.parked_steps(live.projection.name), +1)
    return frozenset(
        b for b in range(BUCKETS) if (stored[b] + parked.hashes[b] - sums.hashes[b]) % _WRAP or b in strays
    )


def differing_rows(snap: Snapshot, sums: Sums, buckets: frozenset[int]) -> list[Found]:
    """The rows of *buckets* that differ; *sums* keeps these keys' sums and is brought to the snapshot's position first."""
    live = snap.live[sums.projection.name]
    while not sums.advance(snap.conn, live.position):
        pass
    sums.add(parked := snap.parked_steps(live.projection.name), -1)
    table, numbers = sums.table, Numbers(sums.table)
    expected = {numbers.bytes_of(key): tuple(a) for key, a in sums.amounts.items() if any(a)}
    sums.add(parked, +1)
    found = []
    for key, amounts in stored_sums(snap.conn, table):
        bucket = numbers.of_bytes(key)[0]
        if bucket not in buckets:
            continue
        wanted = expected.pop(key, None)
        if wanted is None:
            found.append(Found(table.name, name_of(bucket), "extra", _named(table, key)))
        elif wanted != amounts:
            columns = tuple(c for c, a, b in zip(table.sums, wanted, amounts, strict=True) if a != b)
            found.append(Found(table.name, name_of(bucket), "changed", _named(table, key), columns))
    found += [
        Found(table.name, name_of(numbers.of_bytes(key)[0]), "missing", _named(table, key))
        for key in expected
    ]
    return found


def name_of(bucket: int) -> str:
    """What a bucket of keys is called."""
    return f"keys {bucket} of {BUCKETS}"


def _named(table: Table[Any], key: bytes) -> dict[str, Any]:
    hints = dict(msgspec_fields(table))
    found, at = {}, 0
    for column in table.key:
        length = int.from_bytes(key[at : at + 4], "big", signed=True)
        found[column] = value_of(
            key[at + 4 : at + 4 + max(length, 0)] if length >= 0 else None, _plain(hints[column])
        )
        at += 4 + max(length, 0)
    return found


def _plain(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint
