"""Operations: alive, ready, figures for Prometheus, and how far the read models have come."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from adapters.columns.manifest import VERSION, written_to
from adapters.embedded import loading
from adapters.http.auth import house_of, needs_key, signed_in, unauthorised
from adapters.http.house import House
from adapters.http.problems import ProblemDocument
from adapters.http.reading import json_answer
from adapters.http.rebuilds import rebuilds
from adapters.postgres.channel_counts import channels_shown
from adapters.postgres.outage import DATABASE_AWAY
from adapters.postgres.schema import pending
from domain.errors import ClockBehind

__all__ = ["ROUTES", "ProjectionShown", "projections"]


class ProjectionShown(msgspec.Struct, frozen=True, kw_only=True):
    """How far one read model has come."""

    name: str
    version: int
    state: str
    position: int
    lag_positions: int
    lag_s: float
    parked: int
    differences: int = 0  # rows that differ from what follows from the log
    checked_position: int | None = None  # the newest rows were compared with the log up to here
    checked_at: datetime | None = None
    swept_at: datetime | None = None  # when the whole was last compared
    written_position: int | None = None  # of columns: what is behind it is read from the log by whoever asks


_PROJECTIONS = """
SELECT h.position, p.name, p.version, p.state, p.position,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - e.recorded_at)
                   FROM touchpoint_log.events e WHERE e.position = p.position + 1), 0)::float8,
       (SELECT count(*) FROM touchlog.parked k WHERE k.name = p.name AND k.schema = p.schema),
       CASE WHEN p.schema = 'read' THEN (SELECT coalesce(sum(d.rows), 0)::bigint FROM touchlog.differences d WHERE d.name = p.name) ELSE 0 END,
       c.position, c.checked_at, c.swept_at
  FROM touchpoint_log.head h LEFT JOIN touchlog.projections p ON p.state IN ('live', 'building', 'ready')
       LEFT JOIN touchlog.checks c ON c.name = p.name AND p.schema = 'read'
 ORDER BY p.name, p.state <> 'live'
"""


_COLUMNS = """
SELECT h.log_id::text, (SELECT coalesce(sum(d.rows), 0)::bigint FROM touchlog.differences d WHERE d.name = 'columns')
  FROM touchpoint_log.head h
"""


async def projections(house: House) -> tuple[int, list[ProjectionShown]]:
    """(newest position, every read model that answers or is being rebuilt)."""
    async with house.core.pool.connection(timeout=3) as conn:
        rows = await (await conn.execute(_PROJECTIONS, prepare=True)).fetchall()
        told = await (await conn.execute(_COLUMNS, prepare=True)).fetchone()
    shown = [
        ProjectionShown(
            name=name,
            version=version,
            state=state,
            position=position,
            lag_positions=max(0, head - position),
            lag_s=round(max(0.0, lag_s), 3),
            parked=parked,
            differences=differences,
            checked_position=checked_position,
            checked_at=checked_at,
            swept_at=swept_at,
        )
        for head, name, version, state, position, lag_s, parked, differences, checked_position, checked_at, swept_at in rows
        if name is not None
    ]
    head = rows[0][0]
    log_id, differing = told or ("", 0)
    written = await asyncio.to_thread(written_to, house.core.settings.data / "columns", log_id, head)
    # Every answer reaches to the head, whatever is written down yet: that is no lag.
    columns = ProjectionShown(
        name="columns", version=VERSION, state="live", position=head, lag_positions=0, lag_s=0.0, parked=0,
        differences=differing, written_position=written,
    )  # fmt: skip
    return head, [*shown, columns]


@get(
    "/healthz",
    tags=["operations"],
    summary="Whether the process lives",
    description="200 as long as it answers at all; asks nobody else.",
)
async def healthz() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}


_CLOCK_BEHIND = "SELECT clock_timestamp() < recorded_at - interval '60 seconds' FROM touchpoint_log.head"  # as `append` asks
_migrated: set[str] = set()


@get(
    "/readyz",
    tags=["operations"],
    summary="Whether it can work",
    description=(
        "200 when the database answers and is migrated, and no demonstration history is being loaded; with the lags of "
        "the read models. 503 otherwise. `appends` is `refused` while the disk of the database is full, by the last append "
        "that was tried within half a minute, or its clock stands too far behind, and `why` says so: what was recorded is "
        "answered from all the same. With `?appends=true` that is 503, too, for whoever sends on what is to be recorded."
    ),
    responses={
        503: ResponseSpec(
            ProblemDocument,
            description="The database is away or not migrated, or something is being loaded",
            generate_examples=False,
        )
    },
)
async def readyz(
    request: Request[Any, Any, Any],
    appends: Annotated[bool, QueryParameter(description="503 while appends are refused, too")] = False,
) -> Response[bytes]:
    """Answer."""
    house = house_of(request)
    url = house.core.database_url
    try:
        async with asyncio.timeout(3):
            head, shown = await projections(house)
            if url not in _migrated:
                lacking = await asyncio.to_thread(pending, url)
                if lacking:
                    return _not_ready(f"Migrations wait: {', '.join(lacking)}; run `touchlog migrate`.")
                _migrated.add(url)
            why = await _appends_refused(house)
    except (*DATABASE_AWAY, TimeoutError):
        return _not_ready("The database does not answer.")
    if what := loading(house.core.settings.data):
        return _not_ready(f"{what}; {head:,} events are there so far.")
    if why and appends:
        return _not_ready(why)
    told = {"appends": "refused", "why": why} if why else {"appends": "taken"}
    return json_answer(
        {"status": "ready", "version": house.version, "head": head, **told, "projections": shown}
    )


async def _appends_refused(house: House) -> str | None:
    """Why the log takes nothing now."""
    async with house.core.pool.connection(timeout=3) as conn:
        row = await (await conn.execute(_CLOCK_BEHIND, prepare=True)).fetchone()
    return str(ClockBehind()) if row and row[0] else house.appends_refused


def _not_ready(detail: str) -> Response[bytes]:
    problem = ProblemDocument(
        type="/docs#unavailable", title="touchlog cannot answer now", status=503, detail=detail
    )
    return Response(
        msgspec.json.encode(problem),
        status_code=503,
        media_type="application/problem+json",
        headers={"Retry-After": "1"},
    )


@get("/v1/projections", tags=["operations"], summary="How far the read models have come", guards=[needs_key])
async def list_projections(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with every read model, the newest position, and the rebuilds under way or last."""
    house = house_of(request)
    head, shown = await projections(house)
    return json_answer({"projections": shown, "head": head, "rebuilds": await rebuilds(house)})


@get(
    "/metrics",
    tags=["operations"],
    summary="Figures for Prometheus",
    description="Without a key on loopback only.",
    media_type="text/plain",
)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with all figures."""
    if not _from_this_machine(request) and await signed_in(request) is None:
        raise unauthorised("From another machine /metrics wants a key: Authorization: Bearer tl_….")
    house = house_of(request)
    figures = house.figures
    if house.is_open:
        figures.commits.set(house.core.writer.commits)
        try:
            head, shown = await projections(house)
            figures.head.set(head)
            for each in shown:
                if each.state != "live":
                    continue
                figures.parked.labels(each.name).set(each.parked)
                figures.differences.labels(each.name).set(each.differences)
                figures.checked_position.labels(each.name).set(each.checked_position or 0)
                if each.written_position is not None:
                    figures.columns_written.set(each.written_position)
                if each.swept_at is not None:
                    figures.swept_at_s.labels(each.name).set(each.swept_at.timestamp())
                figures.lag_positions.labels(each.name).set(each.lag_positions)
                figures.lag_s.labels(each.name).set(each.lag_s)
            for one in await channels_shown(house.core.pool):
                if one.last_at is not None:
                    figures.channel_last_s.labels(one.channel, one.name).set(one.last_at.timestamp())
                figures.channel_holes.labels(one.channel, one.name).set(one.holes)
                for status, events in (
                    ("recorded", one.recorded),
                    ("duplicate", one.duplicates),
                    ("conflict", one.conflicts),
                    ("rejected", one.rejected),
                ):
                    figures.channel_events.labels(one.channel, one.name, status).set(events)
            figures.rejected_open.set((await house.core.rejected.counts()).get("open", 0))
            figures.links_refused.set(await links_refused(house))
        except DATABASE_AWAY:
            pass  # the counters of this process are true all the same
    # The framework adds a charset to every text; said twice, it is one to no parser of media types.
    media_type, _, _ = CONTENT_TYPE_LATEST.partition("; charset")
    return Response(generate_latest(figures.registry), media_type=media_type)


async def links_refused(house: House) -> int:
    """Links of identifiers that are refused as resolved now, by a limit of their kind or by a split."""
    async with house.core.pool.connection(timeout=3) as conn:
        row = await (await conn.execute("SELECT touchlog.links_refused()", prepare=True)).fetchone()
    return int(row[0]) if row else 0


def _from_this_machine(request: Request[Any, Any, Any]) -> bool:
    """Whether the peer is on loopback and no proxy speaks for somebody else."""
    if request.client is None or any(
        h in request.headers for h in ("forwarded", "x-forwarded-for", "x-real-ip", "via")
    ):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


ROUTES = (healthz, readyz, list_projections, metrics)
