"""The audit trail: who recorded what, when, and because of what."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from adapters.answers.audit_trail import AuditTrails, TrailPage
from adapters.http.auth import house_of
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ROUTES"]


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Invalid([Problem("/day", "A day is written 2026-01-31.", "not_a_day")]) from None


@get(
    "/v1/audit/trail",
    tags=["audit"],
    summary="Who recorded what, when, by which key, and because of which event",
    description=(
        "The newest first; several filters hold together. With `known_at` the trail stands as it was known then: what was corrected or "
        "taken back later is still there. `amended_by` names the positions of corrections and retractions of a row."
    ),
    responses={
        400: ResponseSpec(ProblemDocument, description="A parameter is not valid", generate_examples=False),
        404: ResponseSpec(ProblemDocument, description="No such event or person", generate_examples=False),
        503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
    },
)
async def show_trail(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    event: Annotated[
        str | None,
        QueryParameter(
            description="An event id or a position such as @123: the event, what amends it, what it caused"
        ),
    ] = None,
    person: Annotated[
        str | None, QueryParameter(description="A REF: events of all subjects of the person")
    ] = None,
    actor: Annotated[
        str | None, QueryParameter(description="Who recorded it, or in whose name: a key's id, cli:…")
    ] = None,
    day: Annotated[
        str | None,
        QueryParameter(description="Recorded on this day of the installation's time zone, e.g. 2026-01-31"),
    ] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many; above 1,000 is taken as 1,000")
    ] = 50,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before")] = None,
) -> Response[bytes]:
    """Answer with one page."""
    taken = timed()
    core = house_of(request).core
    after, happened, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)
    of_day = _day(day)
    trails = AuditTrails(core.pool, core.histories, zone=ZoneInfo(core.settings.timezone))

    async def asked() -> TrailPage:
        return await trails.page(
            event=event or None,
            person=person or None,
            actor=actor or None,
            day=of_day,
            as_of=happened,
            known_at=known,
            limit=limit,
            cursor=cursor or None,
            after=after,
        )

    words = " ".join(text for text in (event, person, actor, day) if text)
    try:
        page = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), words, 0)
        raise
    about = tuple(dict.fromkeys([*page.about, *(e["subject"] for e in page.entries if e["subject"])]))
    await access_recorded(request, reader, about, words, len(page.entries))
    return json_answer(page, taken)


ROUTES = (show_trail,)
