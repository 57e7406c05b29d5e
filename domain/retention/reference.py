"""The reference: what a retention means, slowly and obviously. Tests hold the fast answer against it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from domain.funnels.reference import Happening
from domain.retention.question import SPAN_US, Interval, Retention

__all__ = ["Kept", "cohort_of", "kept"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Kept(msgspec.Struct, frozen=True):
    """A unit that started: in which cohort, with which event, and by interval the first return that counts there.

    `last` is the last return that counts; the start where there is none.
    """

    unit: Hashable
    cohort: str
    start: Happening
    returned: dict[int, Happening]
    last: Happening


def _local(at_us: int, zone: ZoneInfo) -> date:
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone).date()


def _number(interval: Interval, day: date) -> int:
    """The number of the day, of its week from Monday, or of its month."""
    if interval == "month":
        return day.year * 12 + day.month - 1
    return (day.toordinal() - 1) // 7 if interval == "week" else day.toordinal()


def cohort_of(interval: Interval, day: date) -> str:
    """The name of the interval of a day: its month, or the day with which it begins."""
    if interval == "month":
        return f"{day:%Y-%m}"
    return f"{day - timedelta(days=day.weekday()) if interval == 'week' else day:%Y-%m-%d}"


def kept(question: Retention, events: Iterable[Happening]) -> list[Kept]:
    """Every start of every unit, and its returns."""
    units: dict[Hashable, list[Happening]] = {}
    for event in events:
        units.setdefault(event.unit, []).append(event)
    zone = ZoneInfo(question.timezone)

    def starts(event: Happening) -> bool:
        return question.start.matches(event.type, event.properties)

    def returns(event: Happening) -> bool:
        return question.back.matches(event.type, event.properties)

    def in_range(event: Happening) -> bool:
        begin, end = question.from_us, question.to_us
        return (begin is None or event.at_us >= begin) and (end is None or event.at_us < end)

    def number(event: Happening) -> int:
        return _number(question.interval, _local(event.at_us, zone))

    def apart(start: Happening, event: Happening) -> int:
        """In which interval after a start an event lies."""
        if question.mode == "rolling":
            return (event.at_us - start.at_us) // SPAN_US[question.interval]
        return number(event) - number(start)

    found = []
    for unit, story in units.items():
        mine = [e for e in story if starts(e) or returns(e)]
        mine.sort(key=lambda e: (e.at_us, not starts(e), e.source, e.source_id))
        begun = [e for e in mine if starts(e)]
        if question.entry == "first":
            begun = [e for e in begun[:1] if in_range(e)]
        else:
            begun = list({number(e): e for e in reversed(begun) if in_range(e)}.values())
        for start in begun:
            later = [e for e in mine[mine.index(start) + 1 :] if returns(e)]
            by_interval = {apart(start, e): e for e in reversed(later)}
            told = range(question.intervals)
            counted = {k: by_interval[k] for k in told if k in by_interval}
            last = [e for e in later if apart(start, e) in told][-1:]
            if question.returns == "first":
                counted = {k: e for k, e in counted.items() if e is later[0]}
                last = list(counted.values())
            elif question.returns == "on_or_after":
                counted = {k: e for k in told for e in [e for e in later if apart(start, e) >= k][:1]}
                last = later[-1:]
            cohort = cohort_of(question.interval, _local(start.at_us, zone))
            found.append(Kept(unit, cohort, start, counted, last[0] if last else start))
    return found
