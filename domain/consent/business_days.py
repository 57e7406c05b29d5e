"""Business days of the jurisdictions whose law counts in them; holidays by rule, so that no year is missing."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

__all__ = ["Calendar", "after_business_days", "holidays"]

Calendar = Literal["US", "CA"]
_MONDAY, _THURSDAY = 0, 3


def _nth(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _last_before(day: date, weekday: int) -> date:
    """The last *weekday* strictly before *day*."""
    return day - timedelta(days=(day.weekday() - weekday - 1) % 7 + 1)


def _observed(day: date) -> date:
    """A holiday on a Saturday is kept on Friday, one on a Sunday on Monday (5 USC 6103(b))."""
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _next_working(day: date) -> date:
    """A holiday on a weekend is kept on the next Monday (Canada Labour Code s.193)."""
    return day + timedelta(days={5: 2, 6: 1}.get(day.weekday(), 0))


def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (Meeus, Jones and Butcher's computation)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = b // 4, b % 4
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = c // 4, c % 4
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


@lru_cache(maxsize=256)
def holidays(calendar: Calendar, year: int) -> frozenset[date]:
    """The federal holidays of a year as they are kept: United States (5 USC 6103), Canada (Labour Code s.166)."""
    if calendar == "US":
        found = [
            _observed(date(year, 1, 1)),
            _nth(year, 2, _MONDAY, 3),
            _last_before(date(year, 6, 1), _MONDAY),
            _observed(date(year, 7, 4)),
            _nth(year, 9, _MONDAY, 1),
            _nth(year, 10, _MONDAY, 2),
            _observed(date(year, 11, 11)),
            _nth(year, 11, _THURSDAY, 4),
            _observed(date(year, 12, 25)),
            _observed(date(year + 1, 1, 1)),  # a New Year's Day on a Saturday is kept in December
        ]
        if year >= 1986:
            found.append(_nth(year, 1, _MONDAY, 3))
        if year >= 2021:
            found.append(_observed(date(year, 6, 19)))
    else:
        found = [
            _next_working(date(year, 1, 1)),
            _easter(year) - timedelta(days=2),
            _last_before(date(year, 5, 25), _MONDAY),
            _next_working(date(year, 7, 1)),
            _nth(year, 9, _MONDAY, 1),
            _nth(year, 10, _MONDAY, 2),
            _next_working(date(year, 11, 11)),
            *_christmas(year),
        ]
        if year >= 2021:
            found.append(_next_working(date(year, 9, 30)))
    return frozenset(day for day in found if day.year == year)


def _christmas(year: int) -> tuple[date, date]:
    """Christmas and Boxing Day; where both fall on a weekend they are kept on Monday and Tuesday."""
    first = _next_working(date(year, 12, 25))
    second = _next_working(date(year, 12, 26))
    return first, second if second != first else second + timedelta(days=1)


def after_business_days(day: date, count: int, calendar: Calendar) -> date:
    """The *count*-th business day after *day*, which itself is not counted."""
    while count > 0:
        day += timedelta(days=1)
        if day.weekday() < 5 and day not in holidays(calendar, day.year):
            count -= 1
    return day
