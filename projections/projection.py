"""How a read model is declared: its rows, and the pure fold that makes them from events.

A projection is one file in this package: row types (tables, columns and comments follow), a name, a
version, a fold, and the queries that ask it. It is registered by being there; one of your own is
found through the entry point group `touchlog.projections`.

Four forms cover most read models, and bring lateness, corrections, retractions, rebuilds and
checks with them:

* `PerEvent`: rows that follow from one event alone, any number of them. Rows carry from which and to
  which position they were known, so that a question may be asked as known then.
* `Counting`: sums by key. The order of events cannot matter, and what is corrected is subtracted.
* `Joining`: one row per key, joined from the rows of its single events, whichever comes first: firsts,
  lasts, sets and sums. An event that arrives late costs no more than any other.
* `Story`: one row per key, folded over the key's events in the order in which they *happened*; an event
  that arrives late is put in its place.

Its `pace` says how soon its rows follow the log: what people look at while they talk to somebody is `live`,
all else comes `later`, and lags for a while where events come faster than the machine can fold them all.

The projector hands a projection `Step`s in log order. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from functools import cache, reduce
from hashlib import sha256
from importlib.metadata import entry_points
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

import msgspec
import structlog

from domain.entry import Recorded
from domain.event import Touchpoint, class_of

__all__ = [
    "PROJECTIONS",
    "Changes",
    "Counting",
    "Effective",
    "Index",
    "Joining",
    "Load",
    "Pace",
    "PerEvent",
    "Projection",
    "Step",
    "Story",
    "Table",
    "foldable_apart",
    "indexable",
    "load_foreign",
    "projection",
]

log = structlog.get_logger()

R = TypeVar("R", bound=msgspec.Struct)
Key = tuple[Hashable, ...]
Pace = Literal["live", "later"]
"""How soon rows follow the log: within milliseconds (`live`), or in large batches at a lower priority (`later`)."""


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


class Projection:
    """The declared rule from events to rows; subclass one of the forms below in a file of its own."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    pace: ClassVar[Pace] = "later"
    tables: ClassVar[tuple[Table[Any], ...]]
    handles: ClassVar[tuple[type[Touchpoint], ...]] = (Touchpoint,)
    """The classes of events that are folded, with all that derive from them, those not invented yet included.

    `Touchpoint` is the root of all, and what undeclared types (`custom.…`) are.
    """

    folds_timeless: ClassVar[bool] = False
    """Whether what counts from when it is known (`steps.TIMELESS`) is folded, also where only what had happened by a time is."""

    def handled(self, steps: Sequence[Step]) -> Sequence[Step]:
        """Those of *steps* whose event is of a class that this projection handles; a correction never changes that."""
        if Touchpoint in self.handles:
            return steps
        return [s for s in steps if issubclass(_class_of(s), self.handles)]

    @property
    def beside(self) -> tuple[Table[Any], ...]:
        """Tables that a form keeps beside the declared ones."""
        return ()

    def prepare(self, steps: Sequence[Step], load: Load) -> None:
        """Ask for the rows that the fold of *steps* will look at; the default looks at none."""

    def fold(self, step: Step, changes: Changes) -> None:
        """Change rows because of one step."""
        raise NotImplementedError

    def finish(self, changes: Changes) -> None:
        """Called once behind the last step of a batch; for rows that follow from several."""

    def forget(self) -> None:
        """Drop whatever is remembered of earlier batches: the last one was not, or will not be, committed."""


def _class_of(step: Step) -> type[Touchpoint]:
    side = step.after or step.before
    assert side is not None
    return class_of(side.recorded.event.type)


class PerEvent(Projection):
    """Rows that follow from one event alone. Each row type has a field `position`, the event's."""

    def rows(self, event: Effective) -> Iterable[tuple[Table[Any], msgspec.Struct]]:
        """The rows of one event, each with its table; none for events that do not concern this read model."""
        raise NotImplementedError

    def fold(self, step: Step, changes: Changes) -> None:
        """Close what is no longer so, and add what is."""
        if step.before is not None:
            for table in self.tables:
                changes.close(table, step.before.recorded.position, step.position)
        if step.after is not None:
            for table, row in self.rows(step.after):
                changes.know(table, row, step.position)


def foldable_apart(projection: Projection) -> bool:
    """Whether stripes of the log may be folded side by side: rows follow from single events, and nothing is loaded for it."""
    kind = type(projection)
    return (
        isinstance(projection, PerEvent)
        and kind.fold is PerEvent.fold
        and kind.prepare is Projection.prepare
        and kind.finish is Projection.finish
        and not projection.beside
        and all(table.known and not table.key for table in projection.tables)
    )


class Counting(Projection):
    """Sums by key, of one table with `sums`."""

    def counts(self, event: Effective) -> Iterable[msgspec.Struct]:
        """Rows whose sums this event adds to those of their keys."""
        raise NotImplementedError

    def fold(self, step: Step, changes: Changes) -> None:
        """Subtract what was counted before, add what counts now."""
        (table,) = self.tables
        if step.before is not None:
            for row in self.counts(step.before):
                changes.add(table, row, -1)
        if step.after is not None:
            for row in self.counts(step.after):
                changes.add(table, row, +1)


class KeyEvent(msgspec.Struct, frozen=True, gc=False):
    """Which events belong to which key."""

    key: Annotated[str, msgspec.Meta(description="Key of the row")]
    position: Annotated[int, msgspec.Meta(description="The event")]


class Keyed(Projection):
    """One row per key, which follows from the events of the key. Subclass `Joining` or `Story`.

    `tables` holds the one table of the rows, keyed by one text column. The projector keeps beside it which
    events belong to which key, known from when to when (`<name>_events`): a key's events are read again when one
    of them is corrected or taken back, and what was known at another moment is told from there.
    """

    def keys(self, event: Effective) -> Iterable[str]:
        """The keys to which this event belongs."""
        raise NotImplementedError

    def whole(self, key: str, events: Sequence[Effective]) -> Any | None:
        """The row of *key* by all its events, given in the order in which they happened; None without any."""
        raise NotImplementedError

    @property
    def events_table(self) -> Table[KeyEvent]:
        """Which events belong to which key, and from which to which position that was known."""
        return Table(
            f"{self.name}_events", KeyEvent, indexes=(Index(("key",)), Index(("position",))), known=True
        )

    @property
    def beside(self) -> tuple[Table[Any], ...]:
        return (self.events_table,)


LONGEST_INDEXED_BYTES = 2_600
"""An entry of an index takes some 2,700 bytes."""


def indexable(text: str) -> str:
    """*text* for a column that is indexed: itself, or where no index holds it, its SHA-256."""
    if len(text) * 4 <= LONGEST_INDEXED_BYTES or len(raw := text.encode()) <= LONGEST_INDEXED_BYTES:
        return text
    return f"sha256:{sha256(raw).hexdigest()}"


REMEMBERED_ROWS = 20_000
"""Rows that a `Joining` keeps in memory: conversations that go on are not read again for every batch."""


class Joining(Keyed):
    """One row per key, joined from the rows that its events give one by one.

    Joining must not depend on the order: of three rows any two may be joined first.
    """

    def rows(self, event: Effective) -> Iterable[Any]:
        """The row of each key that this event belongs to, as if it were the only event of that key."""
        raise NotImplementedError

    def joined(self, one: Any, other: Any) -> Any:
        """The row of the events of both rows, which have the same key."""
        raise NotImplementedError

    def __init__(self) -> None:
        self._key = attrgetter(self.tables[0].key[0])
        self._remembered: dict[str, Any] = {}  # rows as they are stored; those used last stand last
        self._events = self.events_table
        self._told: list[list[Any]] = []  # rows of the steps' new events, the last step first
        self._whole: dict[str, Any] = {}  # rows of keys to which events are added
        self._anew: dict[str, dict[int, Any]] = {}  # by key and position: rows of keys that are joined anew

    def keys(self, event: Effective) -> Iterable[str]:
        """The keys of the rows that this event gives."""
        return [self._key(row) for row in self.rows(event)]

    def whole(self, key: str, events: Sequence[Effective]) -> Any | None:
        """The rows of *key* that the events give, joined."""
        rows = [row for event in events for row in self.rows(event) if self._key(row) == key]
        return reduce(self.joined, rows) if rows else None

    def prepare(self, steps: Sequence[Step], load: Load) -> None:
        (table,) = self.tables
        key_of = self._key
        self._whole, self._anew = {}, {}
        self._told = [list(self.rows(step.after)) if step.after is not None else [] for step in steps]
        self._told.reverse()
        for step in steps:
            if step.before is not None:
                for row in self.rows(step.before):
                    self._anew[key_of(row)] = {}
        keys = {key_of(row) for rows in self._told for row in rows} | self._anew.keys()
        if not keys:
            return
        remembered = self._remembered
        missing = []
        for key in keys:
            row = remembered.pop(key, None)
            if row is None or key in self._anew:
                missing.append(key)
            else:
                self._whole[key] = row
        for row in load.where(table, table.key[0], missing) if missing else ():
            key = key_of(row)
            if key not in self._anew:
                self._whole[key] = row
        if not self._anew:
            return
        positions = {belongs.position for belongs in load.where(self._events, "key", self._anew)}
        for event in load.effective(positions):
            for row in self.rows(event):
                key = key_of(row)
                if key in self._anew:
                    self._anew[key][event.recorded.position] = row

    def fold(self, step: Step, changes: Changes) -> None:
        key_of = self._key
        rows = self._told.pop()
        if step.before is not None:
            gone = step.before.recorded.position
            for row in self.rows(step.before):
                self._anew[key_of(row)].pop(gone, None)
            changes.close(self._events, gone, step.position)
        if not rows:
            return
        assert step.after is not None
        position = step.after.recorded.position
        whole = self._whole
        for row in rows:
            key = key_of(row)
            changes.know(self._events, KeyEvent(key, position), step.position)
            parts = self._anew.get(key) if self._anew else None
            if parts is not None:
                parts[position] = row
                continue
            known = whole.get(key)
            whole[key] = row if known is None else self.joined(known, row)

    def finish(self, changes: Changes) -> None:
        (table,) = self.tables
        for key, parts in self._anew.items():
            if parts:
                self._whole[key] = reduce(self.joined, parts.values())
            else:
                changes.remove(table, (key,))
        for row in self._whole.values():
            changes.put(table, row)
        remembered = self._remembered
        remembered.update(self._whole)
        for old in list(islice(remembered, max(0, len(remembered) - REMEMBERED_ROWS))):
            del remembered[old]

    def forget(self) -> None:
        self._remembered = {}


class StoryEnd(msgspec.Struct, frozen=True, gc=False):
    """How far each story is told: its last event in the order in which they happened."""

    key: Annotated[str, msgspec.Meta(description="Key of the story")]
    occurred_at: Annotated[datetime, msgspec.Meta(description="When its last event happened")]
    source: Annotated[str, msgspec.Meta(description="Who reported that event")]
    source_id: Annotated[str, msgspec.Meta(description="That event's id at its source")]


_Order = tuple[datetime, str, str]


class Story(Keyed):
    """One row per key, folded over the key's events in the order in which they happened.

    Kept beside it, too, is with which event each row ends (`<name>_ends`): what happened later is added to the
    row, and a key is folded again from its first event only when one of its events comes late, is corrected or
    taken back.
    """

    def told(self, row: Any | None, key: str, event: Effective) -> Any | None:
        """The row of *key* after *event*; *row* is None before the first."""
        raise NotImplementedError

    def __init__(self) -> None:
        self._stories: dict[str, list[Effective]] = {}
        self._anew: set[str] = set()

    def whole(self, key: str, events: Sequence[Effective]) -> Any | None:
        """The row after all of *events*."""
        row = None
        for event in events:
            row = self.told(row, key, event)
        return row

    @property
    def ends_table(self) -> Table[StoryEnd]:
        """With which event the row of each key ends."""
        return Table(f"{self.name}_ends", StoryEnd, key=("key",))

    @property
    def beside(self) -> tuple[Table[Any], ...]:
        return (self.events_table, self.ends_table)

    def prepare(self, steps: Sequence[Step], load: Load) -> None:
        (table,) = self.tables
        self._anew = set()
        first: dict[str, _Order] = {}
        for step in steps:
            if step.before is not None:
                self._anew.update(self.keys(step.before))
            if step.after is not None:
                order = story_order(step.after)
                for key in self.keys(step.after):
                    first[key] = min(first.get(key, order), order)
        self._stories = {key: [] for key in (*first, *self._anew)}
        if not self._stories:
            return
        load.where(table, table.key[0], self._stories)
        for end in load.where(self.ends_table, "key", self._stories):
            if end.key in first and first[end.key] < (end.occurred_at, end.source, end.source_id):
                self._anew.add(end.key)
        if not self._anew:
            return
        by_position: dict[int, list[str]] = {}
        for belongs in load.where(self.events_table, "key", self._anew):
            by_position.setdefault(belongs.position, []).append(belongs.key)
        for event in load.effective(by_position):
            for key in by_position[event.recorded.position]:
                self._stories[key].append(event)

    def fold(self, step: Step, changes: Changes) -> None:
        if step.before is not None:
            gone = step.before.recorded.position
            for key in self.keys(step.before):
                self._stories[key] = [e for e in self._stories[key] if e.recorded.position != gone]
            changes.close(self.events_table, gone, step.position)
        if step.after is not None:
            for key in self.keys(step.after):
                self._stories[key].append(step.after)
                changes.know(self.events_table, KeyEvent(key, step.after.recorded.position), step.position)

    def finish(self, changes: Changes) -> None:
        (table,) = self.tables
        ends = self.ends_table
        for key, events in self._stories.items():
            events.sort(key=story_order)
            row = None if key in self._anew else changes.get(table, (key,))
            for event in events:
                row = self.told(row, key, event)
            if row is None:
                changes.remove(table, (key,))
            else:
                changes.put(table, row)
            if events:
                changes.put(ends, StoryEnd(key, *story_order(events[-1])))
            elif key in self._anew:
                changes.remove(ends, (key,))
        self._stories = {}


def story_order(event: Effective) -> _Order:
    """The place of an event among those of one key."""
    told = event.recorded.event
    return told.occurred_at, told.source, told.id


PROJECTIONS: dict[str, Projection] = {}


def projection(cls: type[Projection]) -> type[Projection]:
    """Register a projection under its name.

    Raises:
        ValueError: another projection has its name, or a table of the same name.
    """
    if cls.name in PROJECTIONS and type(PROJECTIONS[cls.name]) is not cls:
        raise ValueError(f"Two projections are named {cls.name!r}; give yours another name.")
    if cls.pace not in get_args(Pace):
        raise ValueError(f"The pace of {cls.name} is {cls.pace!r}; write one of {', '.join(get_args(Pace))}.")
    mine = {table.name for table in cls.tables}
    for other in PROJECTIONS.values():
        if other.name != cls.name and (shared := mine & {table.name for table in other.tables}):
            raise ValueError(
                f"The projections {other.name!r} and {cls.name!r} both have a table {min(shared)!r}; rename yours."
            )
    PROJECTIONS[cls.name] = cls()
    return cls


_failed: dict[str, str] = {}
_loaded: set[str] = set()


def load_foreign() -> list[str]:
    """Load the projections that other distributions declare under `touchlog.projections`.

    An entry point names a class decorated with `@projection`, or the module that holds some. One that cannot be
    loaded is told, and stops no other; returns a line for each of these.
    """
    for found in entry_points(group="touchlog.projections"):
        whose = f"{found.dist.name} {found.dist.version}" if found.dist else "an unknown distribution"
        place = f"{found.name} = {found.value} of {whose}"
        if place in _loaded:
            continue
        _loaded.add(place)
        try:
            loaded = found.load()
            if isinstance(loaded, type) and issubclass(loaded, Projection):
                projection(loaded)
        except Exception as failed:  # noqa: BLE001 - whatever another's code raises, it is told and the rest goes on
            _failed[place] = (
                f"The projection {place} was not loaded: {type(failed).__name__}: {failed} "
                "It is left out; mend or uninstall that distribution, and start again."
            )
            log.error(  # noqa: TRY400 - its text is enough
                "foreign_projection_not_loaded",
                entry_point=place,
                reason=f"{type(failed).__name__}: {failed}",
            )
    return list(_failed.values())
