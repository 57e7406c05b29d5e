"""Pages about persons: search, a person's profile and timeline, likely duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from adapters.answers.duplicates import MOST_OF_ONE_TOKEN, DuplicatesPage
from adapters.answers.finding import FoundPage
from adapters.answers.history import Filters
from adapters.answers.persons import Persons
from adapters.http.auth import house_of
from adapters.http.duplicates import about_pairs, likely_duplicates
from adapters.http.persons import access_recorded, found_persons, history_of, person_of
from adapters.http.reading import as_of_of, local_time_of
from adapters.http.rendering import Clock, elsewhere, from_our_page, rendered
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.entry import LAST_INSTANT
from domain.errors import Invalid, Problem
from domain.event import TYPES
from domain.portrait import portrait_of
from domain.units import words

__all__ = ["ROUTES"]

_SHOWN_IDENTIFIERS = 6
"""Of one kind; the others are unfolded."""
_PAIRS_SHOWN = 50
_TICK = timedelta(microseconds=1)


@post("/search", include_in_schema=False, status_code=200)
async def search(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Find persons; what was asked for stands in no address, and so in no proxy's log."""
    house = house_of(request)
    from_our_page(request)
    form = await request.form()
    text, cursor = str(form.get("q") or "").strip(), str(form.get("cursor") or "")

    async def asked() -> FoundPage:
        return await found_persons(house, text, cursor=cursor or None)

    found = await through_outages(asked, within_s=3) if text else FoundPage([], None, 0)
    about = tuple(s["subject"] for person in found.persons for s in person.subjects)
    await access_recorded(request, reader, about, text, len(found.persons))
    if len(found.persons) == 1 and not cursor and not found.next:
        return elsewhere(f"/persons/{found.persons[0].id}")
    return rendered(
        house,
        "found.html",
        principal=reader,
        persons=found.persons,
        next=found.next,
        further=bool(cursor),
        asked=text,
    )


@get("/persons/{ref:str}", include_in_schema=False)
async def person_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: Annotated[str, PathParameter()],
    as_of: Annotated[str | None, QueryParameter()] = None,
    known_at: Annotated[str | None, QueryParameter()] = None,
    channel: Annotated[str | None, QueryParameter()] = None,
    direction: Annotated[str | None, QueryParameter()] = None,
    since: Annotated[str | None, QueryParameter()] = None,
    until: Annotated[str | None, QueryParameter()] = None,
    q: Annotated[str | None, QueryParameter()] = None,
    cursor: Annotated[str | None, QueryParameter()] = None,
) -> Response[str]:
    """Show who a person is, what is known of it, and its timeline."""
    house = house_of(request)
    zone = ZoneInfo(house.core.settings.timezone)
    asked_for = {
        "channel": channel, "direction": direction, "since": since, "until": until, "q": q, "as_of": as_of, "known_at": known_at,
    }  # fmt: skip
    begins, ends = _span(since, until, zone)
    page = await history_of(
        request,
        reader,
        ref,
        as_of=as_of,
        known_at=known_at,
        only=Filters(
            channel=channel or None, direction=direction or None, since=begins, until=ends, q=q or None
        ),
        limit=50,
        cursor=cursor,
    )
    person = await person_of(request, reader, ref, as_of, known_at or f"@{page.known_at}", recorded=False)
    persons = Persons(house.core.pool, house.core.subjects, house.core.histories)
    known = await persons.of(person, as_of=await as_of_of(request, as_of))
    traits = {name: trait.value for name, trait in known.profile.traits.items()}
    given = {name: value for name, value in asked_for.items() if value}
    return rendered(
        house,
        "person.html",
        principal=reader,
        person=person,
        known=known,
        name=portrait_of(traits).name,
        kinds=_by_kind(person.subjects),
        most_shown=_SHOWN_IDENTIFIERS,
        page=page,
        days=_days(page.entries, zone),
        asked_for=asked_for,
        filtered=bool(given),
        channels=_channels(page.entries, channel),
        next=urlencode({**given, "cursor": page.next}) if page.next else "",
    )


@get("/duplicates", include_in_schema=False)
async def duplicates_page(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[str]:
    """Show persons that may be one, each pair with its reasons."""
    house = house_of(request)

    async def asked() -> DuplicatesPage:
        return await likely_duplicates(house, limit=_PAIRS_SHOWN)

    page = await through_outages(asked, within_s=3)
    await access_recorded(request, reader, about_pairs(page), "", len(page.pairs))
    return rendered(
        house,
        "duplicates.html",
        principal=reader,
        here="duplicates",
        page=page,
        most_of_one=MOST_OF_ONE_TOKEN,
    )


def _span(since: str | None, until: str | None, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """From when and before when, by what stands in the fields From and To.

    Raises:
        Invalid: one is no time, or there is nothing between them; in the words of the page.
    """
    begins = local_time_of(since, zone, "/since") if since else None
    ends = _behind(until, zone) if until else None
    if begins and ends and begins >= ends:
        detail = f"To ({until}) is before From ({since}): there is no time between them. Exchange the two."
        raise Invalid([Problem("/until", detail, "empty_interval")])
    return begins, ends


def _behind(until: str, zone: ZoneInfo) -> datetime:
    """Before when: the time that was given, or the end of the day, which is shown with it."""
    at = local_time_of(until, zone, "/until", ends=True)
    return min(at, LAST_INSTANT - _TICK) + _TICK if len(until) == 10 else at


def _by_kind(subjects: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Identifiers by kind and namespace, in the order in which they come."""
    found: dict[str, list[dict[str, Any]]] = {}
    for subject in subjects:
        namespace = f" @{subject['namespace']}" if subject["namespace"] else ""
        found.setdefault(f"{words(subject['kind'])}{namespace}", []).append(subject)
    return found


def _days(entries: Sequence[dict[str, Any]], zone: ZoneInfo) -> list[dict[str, Any]]:
    """The entries of a page, day by day in the installation's zone."""
    clock, now = Clock(zone), datetime.now(UTC)
    days: list[dict[str, Any]] = []
    for entry in entries:
        title = clock.day(entry["occurred_at"], now)
        if not days or days[-1]["title"] != title:
            days.append({"title": title, "entries": []})
        days[-1]["entries"].append(entry)
    return days


def _channels(entries: Sequence[dict[str, Any]], asked: str | None) -> list[str]:
    known = {declared.channel for declared in TYPES.values() if declared.touchpoint} | {"store", "whatsapp"}
    return sorted(known | {entry["channel"] for entry in entries} | ({asked} if asked else set()))


ROUTES = (search, person_page, duplicates_page)
