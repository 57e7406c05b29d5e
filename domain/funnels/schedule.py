"""When a saved question is asked again by itself: a grid of moments, so that whoever looks late finds the same ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

__all__ = ["MOST_AT_ONCE", "moments_due"]

MOST_AT_ONCE = 100
"""Moments that are made up for after a long stand-still; earlier ones are left out."""
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moments_due(every_us: int, zone: ZoneInfo, *, after: datetime, until: datetime) -> list[datetime]:
    """The moments behind *after* up to *until*, the earliest first.

    Whole days begin at midnight in *zone*, counted from 1970-01-01; other spans are counted from that day in UTC.
    """
    found: list[datetime] = []
    if every_us % _DAY_US == 0:
        days = every_us // _DAY_US
        number = until.astimezone(zone).date().toordinal() - date(1970, 1, 1).toordinal()
        number -= number % days
        while len(found) < MOST_AT_ONCE:
            at = (_EPOCH.replace(tzinfo=None) + timedelta(days=number)).replace(tzinfo=zone).astimezone(UTC)
            if at <= after:
                break
            found.append(at)
            number -= days
    else:
        every = timedelta(microseconds=every_us)
        at = until - (until - _EPOCH) % every
        while at > after and len(found) < MOST_AT_ONCE:
            found.append(at)
            at -= every
    return found[::-1]
