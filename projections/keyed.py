"""The forms of one row per key, which follows from the events of the key, however late they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import reduce
from itertools import islice
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from projections.changes import Changes, Effective, Index, Load, Step, Table
from projections.forms import Projection

__all__ = ["Joining", "KeyEvent", "Keyed", "Story", "StoryEnd", "story_order"]


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
