"""A retention as understood: every option typed, every time in µs since 1970 UTC; what the options mean stands here."""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.funnels.question import Funnel, Matcher, Step

__all__ = ["SPAN_US", "Attribution", "Entry", "Interval", "Mode", "Retention", "Returns"]

Interval = Literal["day", "week", "month"]
Entry = Literal["first", "any"]
Returns = Literal["any", "first", "on_or_after"]
Mode = Literal["calendar", "rolling"]
Attribution = Literal["first", "last", "all_steps"]

SPAN_US: dict[Interval, int] = {
    "day": 86_400_000_000,
    "week": 7 * 86_400_000_000,
    "month": 30 * 86_400_000_000,
}
"""How long a rolling interval is: a day 24 hours, a week 7 days, a month 30 days (as Mixpanel has it)."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """A question. A unit starts with an event of `start` and returns with a later one of `back`, never with the same.

    `entry`: `first`, a unit starts once, with the first event of all that matches, and is left out where that lies
    outside the range [from_us, to_us); `any`, it starts once in every calendar interval of the range in which it
    matches, with the first event there. The calendar interval of its start is a unit's cohort.

    `mode`: `calendar`, interval k is the k-th day, ISO week or month of `timezone` after the cohort's own, which is 0;
    `rolling`, interval k is the k-th span (`SPAN_US`) from the unit's own start on, [start + k·span, start + (k+1)·span).

    `returns`: `any`, a unit counts in each interval in which it returns; `first`, only in the one of its first return;
    `on_or_after`, in each up to that of its last return, however late.

    Of a breakdown `first` is the value on the start, `last` that on the last return that counts (the start where there
    is none), `all_steps` asks once per value over only the events that carry it.
    """

    start: Matcher
    back: Matcher
    interval: Interval
    intervals: int
    entry: Entry = "first"
    returns: Returns = "any"
    mode: Mode = "calendar"
    unit: str = "person"
    breakdown: str | None = None
    attribution: Attribution = "first"
    from_us: int | None = None
    to_us: int | None = None
    timezone: str = "UTC"

    @property
    def looked_at(self) -> Funnel:
        """The events that matter and their order, as those of a funnel of two steps: what starts, what returns."""
        steps = tuple(Step(types=m.types, where=m.where) for m in (self.start, self.back))
        return Funnel(steps=steps, window_us=1, unit=self.unit)
