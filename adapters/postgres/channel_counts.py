"""What came through each channel: counted in memory, added to the database every second, read for people.

Counts are no record: a process that is killed loses those of its last second. The log loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import msgspec
import structlog
from psycopg_pool import AsyncConnectionPool

from adapters.postgres.outage import DATABASE_AWAY

__all__ = ["ChannelCounts", "ChannelShown", "Counted", "channels_shown"]

EVERY_S = 1.0
log = structlog.get_logger()


class Counted(NamedTuple):
    """What one delivery adds."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    lags_s: Sequence[float]  # of what was recorded: from occurred_at to receipt
    numbers: Sequence[tuple[str, int]]  # of what was recorded, in the source's own numbering
    received_at: datetime


class _Sum(msgspec.Struct):
    deliveries: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    lag_sum_s: float = 0.0
    lag_max_s: float = 0.0
    last_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)


_ADD = """
INSERT INTO touchlog.channel_counts AS c
       (channel, name, day, deliveries, recorded, duplicates, conflicts, rejected, lag_sum_s, lag_max_s, last_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (channel, name, day) DO UPDATE SET
       deliveries = c.deliveries + excluded.deliveries, recorded = c.recorded + excluded.recorded,
       duplicates = c.duplicates + excluded.duplicates, conflicts = c.conflicts + excluded.conflicts,
       rejected = c.rejected + excluded.rejected, lag_sum_s = c.lag_sum_s + excluded.lag_sum_s,
       lag_max_s = greatest(c.lag_max_s, excluded.lag_max_s), last_at = greatest(c.last_at, excluded.last_at)
"""
_NUMBER = """
INSERT INTO touchlog.channel_numbers AS c (channel, name, series, lowest, highest, seen)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (channel, name, series) DO UPDATE SET lowest = least(c.lowest, excluded.lowest),
       highest = greatest(c.highest, excluded.highest), seen = c.seen + excluded.seen
"""


class ChannelCounts:
    """The counts of one process since it last wrote them."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, date], _Sum] = {}
        self._numbers: dict[tuple[str, str, str], tuple[int, int, int]] = {}

    def count(self, channel: str, name: str, counted: Counted) -> None:
        """Add one delivery to channel and endpoint (or key) *name*."""
        day = counted.received_at.astimezone(UTC).date()
        one = self._sums.setdefault((channel, name, day), _Sum())
        one.deliveries += 1
        one.recorded += counted.recorded
        one.duplicates += counted.duplicates
        one.conflicts += counted.conflicts
        one.rejected += counted.rejected
        one.lag_sum_s += sum(counted.lags_s)
        one.lag_max_s = max(one.lag_max_s, *counted.lags_s) if counted.lags_s else one.lag_max_s
        one.last_at = max(one.last_at, counted.received_at)
        for series, number in counted.numbers:
            lowest, highest, seen = self._numbers.get((channel, name, series), (number, number, 0))
            self._numbers[channel, name, series] = (min(lowest, number), max(highest, number), seen + 1)

    async def write(self, pool: AsyncConnectionPool[Any]) -> None:
        """Add what was counted to the database; on failure it is kept for the next time."""
        sums, self._sums = self._sums, {}
        numbers, self._numbers = self._numbers, {}
        if not sums:
            return
        try:
            async with pool.connection() as conn, conn.transaction(), conn.cursor() as curs:
                await curs.executemany(
                    _ADD, [(*key, *msgspec.structs.astuple(one)) for key, one in sorted(sums.items())]
                )
                if numbers:
                    await curs.executemany(_NUMBER, [(*key, *told) for key, told in sorted(numbers.items())])
        except BaseException:
            for key, one in sums.items():
                self._back(key, one)
            for key_, (lowest, highest, seen) in numbers.items():
                low, high, more = self._numbers.get(key_, (lowest, highest, 0))
                self._numbers[key_] = (min(low, lowest), max(high, highest), more + seen)
            raise

    def _back(self, key: tuple[str, str, date], one: _Sum) -> None:
        other = self._sums.setdefault(key, _Sum())
        for field in ("deliveries", "recorded", "duplicates", "conflicts", "rejected", "lag_sum_s"):
            setattr(other, field, getattr(other, field) + getattr(one, field))
        other.lag_max_s = max(other.lag_max_s, one.lag_max_s)
        other.last_at = max(other.last_at, one.last_at)

    async def keep_writing(self, pool: AsyncConnectionPool[Any]) -> None:
        """Write every second until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                try:
                    await self.write(pool)
                except DATABASE_AWAY as error:
                    log.warning("channel_counts_wait", reason=type(error).__name__)
        finally:
            try:
                await self.write(pool)
            except DATABASE_AWAY as error:
                log.warning("channel_counts_lost", reason=type(error).__name__)


class ChannelShown(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel and endpoint (or key) does."""

    channel: str
    name: str
    last_at: datetime | None = None
    deliveries: int = 0
    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    recorded_today: int = 0
    rate_per_hour: float = 0.0  # of today, in UTC
    mean_lag_s: float | None = None
    greatest_lag_s: float | None = None
    rejected_open: int = 0
    holes: int = 0  # numbers of the source's own numbering that did not come
    paused: bool = False


_SHOWN = """
WITH counted AS (
    SELECT channel, name, max(last_at) last_at, sum(deliveries) deliveries, sum(recorded) recorded,
           sum(duplicates) duplicates, sum(conflicts) conflicts, sum(rejected) rejected,
           coalesce(sum(recorded) FILTER (WHERE day = (now() AT TIME ZONE 'UTC')::date), 0) today,
           sum(lag_sum_s) lag_sum_s, max(lag_max_s) lag_max_s
      FROM touchlog.channel_counts GROUP BY channel, name),
named AS (SELECT channel, name FROM counted UNION SELECT channel, name FROM touchlog.endpoints)
SELECT n.channel, n.name, c.last_at, coalesce(c.deliveries, 0)::bigint, coalesce(c.recorded, 0)::bigint,
       coalesce(c.duplicates, 0)::bigint, coalesce(c.conflicts, 0)::bigint, coalesce(c.rejected, 0)::bigint,
       coalesce(c.today, 0)::bigint,
       (coalesce(c.today, 0) / greatest(extract(epoch FROM now() - date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') / 3600, 1))::float8,
       c.lag_sum_s / nullif(c.recorded, 0), c.lag_max_s,
       (SELECT count(*) FROM touchlog.rejected r WHERE r.state = 'open' AND
               (r.way_in = 'hooks/' || n.channel || '/' || n.name OR (r.way_in = n.channel AND r.principal = n.name))),
       (SELECT coalesce(sum(greatest(h.highest - h.lowest + 1 - h.seen, 0)), 0)::bigint FROM touchlog.channel_numbers h
         WHERE h.channel = n.channel AND h.name = n.name),
       e.paused_at IS NOT NULL
  FROM named n LEFT JOIN counted c USING (channel, name) LEFT JOIN touchlog.endpoints e USING (channel, name)
 ORDER BY n.channel, n.name
"""


async def channels_shown(pool: AsyncConnectionPool[Any]) -> list[ChannelShown]:
    """Every channel through which something came, and every endpoint."""
    async with pool.connection() as conn:
        rows = await (await conn.execute(_SHOWN)).fetchall()
    fields = ChannelShown.__struct_fields__
    return [ChannelShown(**dict(zip(fields, row, strict=True))) for row in rows]
