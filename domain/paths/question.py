"""A question about paths as understood: every option typed, every span in microseconds, every time in µs since 1970 UTC."""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.funnels.question import Funnel, Matcher, Step

__all__ = ["Loops", "Occurrence", "Paths"]

Occurrence = Literal["first", "last", "every"]
Loops = Literal["repeats", "loops", "keep"]


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps lead to an event, and which follow it.

    Attributes:
        around: the event in the middle, level 0.
        steps: which events are steps; others are as if they had not been.
        by: a property that tells steps of one type apart.
        before, after: how many levels to each side.
        top: how many steps of each level are told one by one.
        gap_us: the longest span between one step and the next; a longer one ends the path. None: no limit.
        window_us: the longest span between the event and a step, inclusive. None: no limit.
        occurrence: of several events in the range: the unit's first, its last, or every one a path of its own.
        loops: `repeats` takes a step that follows itself once, `loops` also leaves out the way back to a step where
            the path has been before, `keep` leaves all as it is.
        unit: `person` or the path of a property.
        from_us, to_us: range of the event in the middle, [from, to).
    """

    around: Matcher
    steps: Matcher
    by: str | None = None
    before: int = 0
    after: int = 3
    top: int = 5
    gap_us: int | None = None
    window_us: int | None = None
    occurrence: Occurrence = "first"
    loops: Loops = "repeats"
    unit: str = "person"
    from_us: int | None = None
    to_us: int | None = None

    @property
    def looked_at(self) -> Funnel:
        """The events looked at, told as a funnel is: the first step is the event in the middle, the second any step."""
        first, second = (Step(types=m.types, where=m.where) for m in (self.around, self.steps))
        return Funnel(steps=(first, second), window_us=1, unit=self.unit)
