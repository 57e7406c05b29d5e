"""The overview: how the log and its read models stand; and the files that pages need."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import PathParameter
from psycopg.errors import UndefinedTable

from adapters.http.auth import house_of, needs_key
from adapters.http.house import House
from adapters.http.operations import ProjectionShown, projections
from adapters.http.reading import json_answer
from adapters.http.rebuilds import rebuilds
from adapters.http.rendering import HERE, rendered
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from adapters.rebuilds.runs import RebuildRun
from adapters.refusal import Refusal
from domain.units import span

__all__ = ["ROUTES"]

_SAMPLED = (2_000, 20_000, 200_000)
"""Of so many newest events the overview counts the channels; of more where few of these are contacts (verdicts, say)."""
_ENOUGH = 500
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_MINUTES = """
WITH marks AS (
    SELECT n, touchpoint_log.position_at(clock_timestamp() - make_interval(mins => n)) AS position
      FROM generate_series(0, 60) n
)
SELECT n, lag(position) OVER (ORDER BY n) - position FROM marks ORDER BY n DESC
"""
_CHANNELS = """
SELECT channel, count(*), max(recorded_at)
  FROM read.contact_history
 WHERE position > (SELECT position FROM touchpoint_log.head) - %s
 GROUP BY channel
 ORDER BY count(*) DESC, channel
"""


class ChannelCount(msgspec.Struct, frozen=True):
    """How many of the newest events came on one channel."""

    name: str
    count: int
    last_at: datetime


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the overview shows."""

    head: int
    last_minute: int
    per_second: str
    lag: int
    lag_state: str
    rejected: int
    projections: list[ProjectionShown]
    minutes: list[int] = []
    channels: list[ChannelCount] = []
    rebuilds: list[RebuildRun] = []  # under way, asked for, or failed

    @property
    def most_per_minute(self) -> int:
        """The height of the chart."""
        return max(self.minutes, default=0)

    @property
    def sampled(self) -> int:
        """How many events the channels are counted of."""
        return sum(channel.count for channel in self.channels)


async def _status(house: House, *, whole: bool) -> Status:
    core = house.core
    head, shown = await projections(house)
    async with core.pool.connection() as conn:
        row = await (
            await conn.execute(
                "SELECT touchpoint_log.position_at(clock_timestamp() - interval '1 minute')", prepare=True
            )
        ).fetchone()
        minutes: list[Any] = []
        channels: list[Any] = []
        if whole:
            minutes = (await (await conn.execute(_MINUTES, prepare=True)).fetchall())[:-1]
            try:
                for looked_at in _SAMPLED:
                    channels = await (await conn.execute(_CHANNELS, (looked_at,))).fetchall()
                    if sum(count for _, count, _ in channels) >= _ENOUGH or looked_at >= head:
                        break
            except UndefinedTable:
                channels = []  # no projector has run yet
    last_minute = head - (row[0] if row else head)
    lag = max((p.lag_positions for p in shown if p.state == "live"), default=0)
    age_s = max((p.lag_s for p in shown if p.state == "live"), default=0.0)
    rate = last_minute / 60
    return Status(
        head=head,
        last_minute=last_minute,
        per_second=f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        lag=lag,
        lag_state="up to date" if not lag else f"the first for {span(age_s) or '0 s'}",
        rejected=(await core.rejected.counts()).get("open", 0),
        projections=shown,
        minutes=[n for _, n in minutes],
        channels=[ChannelCount(*row) for row in channels],
        rebuilds=[r for r in await rebuilds(house) if r.state != "done"] if whole else [],
    )


@get("/", include_in_schema=False)
async def overview(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Show how the log and its read models stand."""
    house = house_of(request)
    status = await through_outages(lambda: _status(house, whole=True), within_s=3)
    return rendered(
        house, "overview.html", principal=reader, here="overview", status=status, now=datetime.now(UTC)
    )


@get("/pages/status", include_in_schema=False, guards=[needs_key])
async def status_now(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with the figures that change, for the page's script."""
    return json_answer(await _status(house_of(request), whole=False))


@get("/pages/{name:str}", include_in_schema=False)
async def page_file(name: Annotated[str, PathParameter()]) -> Response[bytes]:
    """Give a style, a script or the icons; no key is asked for, nothing of anybody stands in them."""
    file = HERE / Path(name).name
    media_type = _MEDIA_TYPES.get(file.suffix)
    if media_type is None or not file.is_file():
        raise Refusal(404, "not-found", "There is no such file.")
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(file.read_bytes(), media_type=media_type, headers=headers)


ROUTES = (overview, status_now, page_file)
