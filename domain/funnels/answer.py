"""The figures of a funnel, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from domain.entry import LAST_INSTANT, in_zone, within_calendar
from domain.funnels.question import Trend
from domain.funnels.times import Times, summary

__all__ = ["MOST_PERIODS", "Answer", "Period", "Rest", "StepFigures", "Value", "figures", "periods"]

MOST_PERIODS = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StepFigures(msgspec.Struct, frozen=True):
    """Units (or attempts) that reached at least this step; shares are null where nothing is divided by nothing.

    `conversion` is of the first step, `relative` of the step before, `time_to_next` the span to the next step.
    """

    count: int
    conversion: float | None
    relative: float | None
    time_to_next: Times | None


class Value(msgspec.Struct, frozen=True):
    """The funnel of one value of the breakdown; null: the property is absent."""

    value: Any
    steps: list[StepFigures]


class Rest(msgspec.Struct, frozen=True):
    """The values of a breakdown beyond the fifty most frequent, together."""

    values: int
    steps: list[StepFigures]


class Period(msgspec.Struct, frozen=True):
    """The funnel whose range is one interval; `open`: its window is not over yet."""

    period: str
    open: bool
    steps: list[StepFigures]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer; asked again with its `as_of` and `known_at`, it is the same, byte for byte.

    `segment` is what is told of the segment to whose persons it is narrowed.
    """

    steps: list[StepFigures]
    time_to_convert: Times
    open: bool
    notes: list[str]
    as_of: str | None
    known_at: int
    head: int
    segment: Any = None
    breakdown: list[Value] | None = None
    breakdown_rest: Rest | None = None
    trend: list[Period] | None = None

    def __post_init__(self) -> None:
        assert self.known_at == self.head, "`head` is the position that `known_at` resolved to"


def figures(counts: Sequence[int], spans: Sequence[tuple[Sequence[int], int]]) -> list[StepFigures]:
    """Figures of each step, of the counts that reached it and the spans (ordered, with their sum) to the next."""
    found = []
    for k, count in enumerate(counts):
        before = counts[k - 1] if k else 0
        found.append(
            StepFigures(
                count=count,
                conversion=count / counts[0] if counts[0] else None,
                relative=count / before if before else None,
                time_to_next=summary(*spans[k]) if k + 1 < len(counts) else None,
            )
        )
    return found


def _us(at: datetime) -> int:
    span = at - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def periods(trend: Trend, zone: ZoneInfo, begin_us: int, end_us: int) -> list[tuple[int, str]]:
    """(begin in µs, name) of each interval from the one of *begin_us* on, and the end of the last with an empty name.

    Days, ISO weeks (from Monday) and months of *zone*; the first is cut at *begin_us* and the last at *end_us* by
    whoever asks for less.
    """
    day = in_zone(_EPOCH + timedelta(microseconds=begin_us), zone).date()
    if trend == "week":
        day -= timedelta(days=day.weekday())
    elif trend == "month":
        day = day.replace(day=1)
    found: list[tuple[int, str]] = []
    while len(found) <= MOST_PERIODS:
        at_us = _us(within_calendar(datetime(day.year, day.month, day.day, tzinfo=zone)))
        if at_us >= end_us and found:
            found.append((at_us, ""))
            break
        found.append((at_us, f"{day:%Y-%m}" if trend == "month" else f"{day:%Y-%m-%d}"))
        try:
            if trend == "month":
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            else:
                day += timedelta(days=7 if trend == "week" else 1)
        except OverflowError:  # the calendar ends, and its last interval with it
            found.append((_us(LAST_INSTANT), ""))
            break
    return found
