"""Volumes asked: how much came over each channel, by hour or day of the installation's zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.history import Histories
from domain.entry import moment
from domain.errors import Invalid, Problem

__all__ = ["BY", "Volumes", "VolumesAnswer"]

READ_MODELS = ("daily_volumes",)
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
    head: int


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
        after: int = 0,
    ) -> VolumesAnswer:
        """Events that happened in [from, to), summed by *by*, as corrected and known now.

        Args:
            from_: taken down to the full hour.
            to: taken up to the full hour; the answer tells both as taken.
            after: wait until the read model has seen this position.

        Raises:
            Invalid: *by* names what volumes are not kept by, or `from` does not lie before `to`.
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
        if from_ is not None and to is not None and from_ >= to:
            problems.append(
                Problem("/from", "'from' must lie before 'to'; the interval is [from, to).", "empty_interval")
            )
        if problems:
            raise Invalid(problems)
        begin = None if from_ is None else from_.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        end = (
            None
            if to is None
            else (to.astimezone(UTC) + timedelta(hours=1, microseconds=-1)).replace(
                minute=0, second=0, microsecond=0
            )
        )
        if after:
            await self._histories.wait_until(after, models=READ_MODELS)
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
        keys = ", ".join(told.get(c, c) for c in columns)
        grouped = f"SELECT {keys + ', ' if keys else ''}sum(events)::bigint AS n FROM read.daily_volumes WHERE {where}"  # noqa: S608 - names of our own
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
            rows[0][0] or 0,
        )
