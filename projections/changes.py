"""What a fold is given, the steps of the log, and what it reads and writes: rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cache
from hashlib import sha256
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from domain.entry import Recorded

__all__ = ["Changes", "Effective", "Index", "Key", "Load", "Step", "Table", "indexable"]

R = TypeVar("R", bound=msgspec.Struct)
Key = tuple[Hashable, ...]


class Effective(msgspec.Struct, frozen=True, gc=False):
    """An event as it holds: as recorded, with its corrections applied to what is plain.

    Attributes:
        recorded: the event; `recorded.event` is the corrected one.
        body: the body as recorded, which proofs know.
        patches: bodies of the corrections, in the order in which they apply; what they seal is opened on reading.
    """

    recorded: Recorded
    body: bytes
    patches: tuple[bytes, ...] = ()


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one position of the log changes: an event appears, is corrected (both sides), or is taken back."""

    position: int
    before: Effective | None
    after: Effective | None

    @property
    def concerns(self) -> Recorded:
        """The event that appears, is corrected or is taken back, as it is behind this step where it still is."""
        side = self.after or self.before
        assert side is not None, "a step has a side"
        return side.recorded


class Index(msgspec.Struct, frozen=True):
    """An index of a table: its columns, and its method (`btree` or `brin`)."""

    columns: tuple[str, ...]
    method: str = "btree"


class Table(msgspec.Struct, Generic[R], frozen=True):
    """One table of a read model.

    Attributes:
        key: the columns that name a row; empty for rows that are only appended.
        known: rows carry `known_from` and `known_to` (positions): they are closed, never removed.
        sums: the columns that are added up by key (`Counting`).
    """

    name: str
    row: type[R]
    key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    known: bool = False
    sums: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the declared columns, in the order of the row's fields."""
        return self.row.__struct_fields__

    def key_of(self, row: R) -> Key:
        """The key of *row*."""
        return _getter(self.key)(row)


@cache
def _getter(columns: tuple[str, ...]) -> Callable[[Any], Key]:
    """What gives *columns* of a row, as a tuple however many they are."""
    if len(columns) > 1:
        found: Callable[[Any], Key] = attrgetter(*columns)
        return found
    return lambda row: tuple(getattr(row, column) for column in columns)


class Load(Protocol):
    """How `prepare` asks for rows; an implementation answers from the database as of this batch's start."""

    def where(self, table: Table[R], column: str | tuple[str, ...], values: Iterable[Hashable]) -> list[R]:
        """Bring all rows whose *column* (or columns together) is one of *values* into the changes; answers with them."""

    def effective(self, positions: Iterable[int]) -> list[Effective]:
        """The events at *positions* as known before this batch; those taken back are absent."""

    def of_subjects(self, subjects: Iterable[Hashable]) -> list[Effective]:
        """All events whose first subject is one of *subjects*, as known before this batch."""


class Changes:
    """The rows a batch has seen and made: what a fold reads and writes."""

    def __init__(self) -> None:
        self.appended: dict[str, list[Any]] = {}
        self.known: dict[str, list[tuple[Any, int]]] = {}
        self.closed: dict[str, dict[int, list[int]]] = {}
        self.added: dict[str, dict[Key, list[int]]] = {}
        self.rows: dict[str, dict[Key, Any]] = {}
        self.stored: dict[str, dict[Key, Any]] = {}

    # rows that are only appended, and rows with the positions between which they were known

    def append(self, table: Table[R], row: R) -> None:
        """Add a row to a table without key."""
        self.appended.setdefault(table.name, []).append(row)

    def know(self, table: Table[R], row: R, since: int) -> None:
        """Add a row that is known from position *since* on."""
        self.known.setdefault(table.name, []).append((row, since))

    def close(self, table: Table[R], position: int, to: int) -> None:
        """The rows of the event at *position* are no longer known from position *to* on."""
        self.closed.setdefault(table.name, {}).setdefault(position, []).append(to)

    def known_rows(self, table: Table[R]) -> Iterable[tuple[R, int, int | None]]:
        """(row, known from, known to) of the rows of this batch."""
        closed = self.closed.get(table.name, {})
        for row, since in self.known.get(table.name, ()):
            ends = closed.get(row.position) if closed else None
            yield row, since, min((to for to in ends if to > since), default=None) if ends else None

    def closed_rows(self, table: Table[R]) -> list[tuple[int, int]]:
        """(position of the event, known to) of stored rows that are closed by this batch."""
        return [(position, min(ends)) for position, ends in self.closed.get(table.name, {}).items()]

    # sums

    def add(self, table: Table[R], row: R, sign: int) -> None:
        """Add a row's sums to those of its key, or take them away again."""
        sums = self.added.setdefault(table.name, {})
        key = table.key_of(row)
        amounts = sums.get(key)
        if amounts is None:
            sums[key] = [sign * getattr(row, column) for column in table.sums]
        else:
            for i, column in enumerate(table.sums):
                amounts[i] += sign * getattr(row, column)

    # rows by key

    def get(self, table: Table[R], key: Key) -> R | None:
        """The row with *key*, if `prepare` brought it in or the fold put it."""
        return self.rows.get(table.name, {}).get(key)

    def put(self, table: Table[R], row: R) -> None:
        """Set the row with this row's key."""
        self.rows.setdefault(table.name, {})[table.key_of(row)] = row

    def remove(self, table: Table[R], key: Key) -> None:
        """Take the row with *key* away."""
        self.rows.setdefault(table.name, {}).pop(key, None)

    def all(self, table: Table[R]) -> list[R]:
        """Every row of *table* that is known to this batch."""
        return list(self.rows.get(table.name, {}).values())

    def brought_in(self, table: Table[R], row: R) -> None:
        """A row as it is stored (called by a `Load`)."""
        key = table.key_of(row)
        if key not in self.stored.setdefault(table.name, {}):
            self.stored[table.name][key] = row
            self.rows.setdefault(table.name, {})[key] = row

    def written(self, table: Table[R]) -> tuple[list[R], list[Key]]:
        """(rows to insert or replace, keys to delete) against what is stored."""
        stored = self.stored.get(table.name, {})
        rows = self.rows.get(table.name, {})
        changed = [row for key, row in rows.items() if stored.get(key) != row]
        gone = [key for key in stored if key not in rows]
        return changed, gone


LONGEST_INDEXED_BYTES = 2_600
"""An entry of an index takes some 2,700 bytes."""


def indexable(text: str) -> str:
    """*text* for a column that is indexed: itself, or where no index holds it, its SHA-256."""
    if len(text) * 4 <= LONGEST_INDEXED_BYTES or len(raw := text.encode()) <= LONGEST_INDEXED_BYTES:
        return text
    return f"sha256:{sha256(raw).hexdigest()}"
