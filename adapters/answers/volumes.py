"""Volumes asked: how much came over each channel, by hour or day of the installation's zone.

The sums of `daily_volumes` are as known now. As known, or as it had happened, at another moment the rows of
`audit_trail` are counted, which carry from when to when each was known: the same figures, exactly, for a look at
every event of the time asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from domain.entry import LAST_INSTANT, moment
from domain.errors import Invalid, Problem
from domain.event import direction_problems

__all__ = ["BY", "Volumes", "VolumesAnswer"]

READ_MODELS = ("daily_volumes",)
READ_MODELS_OF_A_MOMENT = ("audit_trail",)
BY = ("day", "hour", "channel", "type", "direction")
"""What volumes can be told by."""
MOST_ROWS = 100_000


class VolumesAnswer(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Sums of events; every row holds the fields of `by`, and `events`."""

    rows: list[dict[str, Any]]
    events: int
    by: list[str]
    from_: str | None
    to: str | None
    timezone: str
    as_of: str | None
    known_at: int
    head: int


_OF_A_MOMENT = """(
    SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, channel, type, coalesce(direction, '') AS direction, count(*) AS events
      FROM read.audit_trail
     WHERE known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
       AND (%(as_of)s::timestamptz IS NULL OR occurred_at <= %(as_of)s)
       AND (%(from)s::timestamptz IS NULL OR occurred_at >= %(from)s) AND (%(to)s::timestamptz IS NULL OR occurred_at < %(to)s)
     GROUP BY 1, 2, 3, 4) moment"""


class Volumes:
    """Answers how much there was.

    Args:
        zone: in which days are cut. Counts are kept by full hours of UTC; in a zone that is off by a part of an hour
            a day begins with the hour in which midnight lies.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories, *, zone: ZoneInfo) -> None:
        self._pool = pool
        self._histories = histories
        self._zone = zone

    async def of(
        self,
        *,
        by: Sequence[str] = ("day",),
        from_: datetime | None = None,
        to: datetime | None = None,
        channel: str | None = None,
        type_: str | None = None,
        direction: str | None = None,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
    ) -> VolumesAnswer:
        """Events that happened in [from, to), summed by *by*, as corrected; as known now unless told otherwise.

        Asked again with the `as_of` and `known_at` that it answers, it answers the same.

        Args:
            from_: taken down to the full hour.
            to: taken up to the full hour; the answer tells both as taken.
            after: wait until the read model has seen this position.

        Raises:
            Invalid: *by* names what volumes are not kept by, *direction* is none, or `from` does not lie before `to`.
            FutureTime: nobody knows yet what will be known at *known_at*.
            Behind: the read model does not come to *after* in time.
        """
        problems = [
            Problem(
                "/by", f"Volumes are told by {', '.join(BY)}; '{b[:40]}' is none of these.", "not_allowed"
            )
            for b in by
            if b not in BY
        ]
        if "day" in by and "hour" in by:
            problems.append(Problem("/by", "By day or by hour, not both: an hour tells its day.", "both"))
        problems += direction_problems(direction)
        if from_ is not None and to is not None and from_ >= to:
            problems.append(
                Problem("/from", "'from' must lie before 'to'; the interval is [from, to).", "empty_interval")
            )
        if problems:
            raise Invalid(problems)
        begin = None if from_ is None else from_.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        end = None if to is None else to.astimezone(UTC)
        if end is not None and end > LAST_INSTANT - timedelta(hours=1):  # behind it nothing can lie
            end = None
        elif end is not None:
            end = (end + timedelta(hours=1, microseconds=-1)).replace(minute=0, second=0, microsecond=0)
        position = await self._position(as_of, known_at, after)
        columns = list(dict.fromkeys(by))
        told = {"day": "to_char(hour AT TIME ZONE %(zone)s, 'YYYY-MM-DD')", "hour": "hour"}
        filters = {
            "hour >= %(from)s": begin,
            "hour < %(to)s": end,
            "channel = %(channel)s": channel,
            "type = %(type)s": type_,
            "direction = %(direction)s": direction,
        }
        where = " AND ".join(words for words, value in filters.items() if value is not None) or "true"
        of = "read.daily_volumes" if position is None else _OF_A_MOMENT
        keys = ", ".join(told.get(c, c) for c in columns)
        grouped = f"SELECT {keys + ', ' if keys else ''}sum(events)::bigint AS n FROM {of} WHERE {where}"  # noqa: S608 - names of our own
        if keys:
            grouped += f" GROUP BY {keys} ORDER BY {', '.join(str(i + 1) for i in range(len(columns)))} LIMIT %(most)s"
        statement = (
            "SELECT (SELECT position FROM touchlog.projections WHERE name = 'daily_volumes' AND state = 'live'), v.* "  # noqa: S608 - names of our own
            f"FROM (SELECT) one LEFT JOIN ({grouped}) v ON true"
        )
        parameters = {
            "from": begin,
            "to": end,
            "channel": channel,
            "type": type_,
            "direction": direction,
            "zone": self._zone.key,
            "most": MOST_ROWS + 1,
            "as_of": as_of,
            "known_at": position,
        }
        async with self._pool.connection() as conn:  # one statement: position and sums are of one moment
            rows = await (await conn.execute(statement.encode(), parameters)).fetchall()
        if len(rows) > MOST_ROWS:
            raise Invalid(
                [
                    Problem(
                        "/by",
                        f"More than {MOST_ROWS:,} rows; ask for a shorter time, or by less.",
                        "too_many",
                    )
                ]
            )
        found = [
            {
                **{
                    c: moment(v) if isinstance(v, datetime) else v
                    for c, v in zip(columns, row[1:], strict=False)
                },
                "events": row[-1],
            }
            for row in rows
            if row[-1] is not None
        ]
        return VolumesAnswer(
            found,
            sum(r["events"] for r in found),
            columns,
            moment(begin) if begin else None,
            moment(end) if end else None,
            self._zone.key,
            moment(as_of) if as_of else None,
            seen := position if position is not None else rows[0][0] or 0,
            seen,
        )

    async def _position(
        self, as_of: datetime | None, known_at: datetime | int | None, after: int
    ) -> int | None:
        """The position of the moment asked for, once it was seen; None for now, of which the sums are kept."""
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None and as_of is None:
            if after:
                await self._histories.moments.wait_until(after, models=READ_MODELS)
            return None
        wanted = max(position or 0, after)
        seen = await self._histories.moments.wait_until(wanted, models=READ_MODELS_OF_A_MOMENT)
        return seen if position is None else position
