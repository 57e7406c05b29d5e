"""How a read model is declared: its rows, and the pure fold that makes them from events.

A projection is one file in this package: row types (their tables, columns and comments follow),
a name, a version, a fold, and the queries that ask it. It is registered by being there.

The projector hands a fold batches of events in log order. A fold may look at rows that `prepare`
asked for, append rows, put and remove them by key; it reads no clock and no database, and so gives
the same rows in whatever batches the log is read.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from domain.entry import Recorded

__all__ = ["PROJECTIONS", "Changes", "Index", "Load", "Projection", "Table", "projection"]

R = TypeVar("R", bound=msgspec.Struct)
Key = tuple[Hashable, ...]


class Index(msgspec.Struct, frozen=True):
    """An index of a table: its columns, and its method (`btree` or `brin`)."""

    columns: tuple[str, ...]
    method: str = "btree"


class Table(msgspec.Struct, Generic[R], frozen=True):
    """One table of a read model.

    Attributes:
        key: the columns that name a row; empty for rows that are only ever appended.
    """

    name: str
    row: type[R]
    key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the row's fields."""
        return self.row.__struct_fields__

    def key_of(self, row: R) -> Key:
        """The key of *row*."""
        return tuple(getattr(row, column) for column in self.key)


class Load(Protocol):
    """How `prepare` asks for rows; an implementation answers from the database as of this batch's start."""

    def where(self, table: Table[R], column: str, values: Iterable[Hashable]) -> list[R]:
        """Bring all rows whose *column* is one of *values* into the changes; answers with them."""


class Changes:
    """The rows a batch has seen and made: what a fold reads and writes."""

    def __init__(self) -> None:
        self.appended: dict[str, list[Any]] = {}
        self.rows: dict[str, dict[Key, Any]] = {}
        self.stored: dict[str, dict[Key, Any]] = {}

    def append(self, table: Table[R], row: R) -> None:
        """Add a row to a table without key."""
        self.appended.setdefault(table.name, []).append(row)

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
        self.stored.setdefault(table.name, {}).setdefault(key, row)
        self.rows.setdefault(table.name, {}).setdefault(key, row)

    def written(self, table: Table[R]) -> tuple[list[R], list[Key]]:
        """(rows to insert or replace, keys to delete) against what is stored."""
        stored = self.stored.get(table.name, {})
        rows = self.rows.get(table.name, {})
        changed = [row for key, row in rows.items() if stored.get(key) != row]
        gone = [key for key in stored if key not in rows]
        return changed, gone


class Projection:
    """The declared rule from events to rows; subclass it in a file of its own and decorate with `@projection`."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table[Any], ...]]

    def prepare(self, events: Sequence[Recorded], load: Load) -> None:
        """Ask for the rows that the fold of *events* will look at; the default looks at none."""

    def fold(self, recorded: Recorded, body: bytes, changes: Changes) -> None:
        """Change rows because of one event. *body* is the event's body as stored."""
        raise NotImplementedError

    def finish(self, changes: Changes) -> None:
        """Called once behind the last event of a batch; for rows that follow from several."""

    def forget(self) -> None:
        """Drop whatever is remembered of earlier batches: the last one was not committed."""


PROJECTIONS: dict[str, Projection] = {}


def projection(cls: type[Projection]) -> type[Projection]:
    """Register a projection under its name."""
    if cls.name in PROJECTIONS and type(PROJECTIONS[cls.name]) is not cls:
        raise ValueError(f"Two projections are named {cls.name!r}.")
    PROJECTIONS[cls.name] = cls()
    return cls
