"""The forms that follow from single events: rows of each, and sums by key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from domain.event import Touchpoint, class_of
from projections.changes import Changes, Effective, Load, Step, Table

__all__ = ["Counting", "Pace", "PerEvent", "Projection", "foldable_apart"]

Pace = Literal["live", "later"]
"""How soon rows follow the log: within milliseconds (`live`), or in large batches at a lower priority (`later`)."""


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
