"""Volumes: how much came over each channel; no personal data, so no access record."""

from __future__ import annotations

from typing import Annotated, Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from adapters.answers.volumes import Volumes, VolumesAnswer
from adapters.http.auth import house_of
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, time_of, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal

__all__ = ["ROUTES"]


@get(
    "/v1/volumes",
    tags=["volumes"],
    summary="How many events happened, by day or hour, channel, type and direction",
    description=(
        "Events that happened in [from, to), as corrected; as known now unless told otherwise. Days are cut in the installation's time zone, which the answer "
        "names; `from` is taken down and `to` up to the full hour. `as_of` and `known_at` give the figures of another moment, for ever the same."
    ),
    responses={
        400: ResponseSpec(ProblemDocument, description="A parameter is not valid", generate_examples=False),
        503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
    },
)
async def show_volumes(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    by: Annotated[
        str,
        QueryParameter(
            description="day, hour, channel, type, direction; several with commas; empty for one sum"
        ),
    ] = "day",
    from_: Annotated[str | None, QueryParameter(name="from", description="RFC 3339 time; from it on")] = None,
    to: Annotated[str | None, QueryParameter(description="RFC 3339 time; before it")] = None,
    channel: Annotated[str | None, QueryParameter(description="Only this channel")] = None,
    type_: Annotated[str | None, QueryParameter(name="type", description="Only this type")] = None,
    direction: Annotated[str | None, QueryParameter(description="inbound, outbound or internal")] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer with the sums."""
    taken = timed()
    core = house_of(request).core
    after, begin, end = after_of(request), time_of(from_, "/from"), time_of(to, "/to")
    happened, known = await as_of_of(request, as_of), known_at_of(known_at)
    volumes = Volumes(core.pool, core.histories, zone=ZoneInfo(core.settings.timezone))

    async def asked() -> VolumesAnswer:
        return await volumes.of(
            by=[b.strip() for b in by.split(",") if b.strip()],
            from_=begin,
            to=end,
            channel=channel or None,
            type_=type_ or None,
            direction=direction or None,
            as_of=happened,
            known_at=known,
            after=after,
        )

    return json_answer(await through_outages(asked, within_s=3), taken)


ROUTES = (show_volumes,)
