"""The verdict ledger over HTTP: a message's verdicts, what a report said before and why it has changed; and both as pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.consent.breaches import Breaches, BreachReport
from adapters.consent.ledger import Changes, Ledger, MessageVerdicts
from adapters.http.auth import house_of
from adapters.http.house import House
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import KnownAt, after_of, in_utc, json_answer, known_at_of, time_of, timed
from adapters.http.rendering import rendered
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.entry import in_zone
from domain.errors import Invalid, Problem

__all__ = ["PAGES", "ROUTES"]

_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="Something asked for is not valid", generate_examples=False
    ),
    404: ResponseSpec(ProblemDocument, description="No such message", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="The ledger is behind", generate_examples=False),
}
_Begin = Annotated[str, QueryParameter(name="from", description="The first instant, RFC 3339")]
_End = Annotated[str, QueryParameter(name="to", description="The first instant behind")]
_SHOWN = 100
"""Messages on a page; the command and the route list more."""


def _ledger(house: House) -> Ledger:
    return Ledger(house.core.pool, house.core.histories)


@get(
    "/v1/consent/breaches/changes",
    tags=["consent"],
    summary="What a report of breaches said before, and why it says otherwise now",
    description=(
        "The report on messages handed over in [from, to) as it was at `said_at` (a time, or a position such as @123) beside the one at "
        "`known_at`: counted are verdicts then and now, `changes` lists the messages whose verdict is another, and `because` names the events "
        "that were learnt in between and changed it, with how late they came."
    ),
    responses=_PROBLEMS,
)
async def list_changes(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    begin: _Begin,
    end: _End,
    said_at: Annotated[str, QueryParameter(description="The earlier moment: a time, or a position")],
    known_at: KnownAt = None,
    limit: Annotated[int, QueryParameter(ge=1, description="List so many; at most 10,000")] = 1000,
) -> Response[bytes]:
    """Answer with what has changed."""
    taken = timed()
    first, behind = time_of(begin, "/from"), time_of(end, "/to")
    then, now = known_at_of(said_at), known_at_of(known_at)
    if first is None or behind is None or then is None:
        raise Invalid(
            [Problem("/said_at", "'from' and 'to' are times, 'said_at' a time or a position.", "missing")]
        )
    after, house = after_of(request), house_of(request)

    async def asked() -> Changes:
        return await _ledger(house).changes(
            first, behind, said_at=then, known_at=now, limit=min(limit, 10_000), after=after
        )

    found = await through_outages(asked, within_s=3)
    about = tuple(dict.fromkeys(one["person"] for one in found.changes if one["person"]))
    await access_recorded(request, reader, about, f"{begin} {end} {said_at}", len(found.changes))
    return json_answer(found, taken)


@get(
    "/v1/consent/verdicts/{event_id:str}",
    tags=["consent"],
    summary="What was said of a message, when, and why it changed",
    description=(
        "Every verdict on the message with this event id, the oldest first: its reason, the three looks, the positions that decided, and "
        "`because`, the event whose arrival brought it."
    ),
    responses=_PROBLEMS,
)
async def list_verdicts(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    event_id: Annotated[str, PathParameter(description="The event id of a message that went out")],
) -> Response[bytes]:
    """Answer with the verdicts."""
    taken = timed()
    house, after = house_of(request), after_of(request)
    found = await through_outages(lambda: _ledger(house).of(event_id, after=after), within_s=3)
    await access_recorded(request, reader, _about(found), event_id, len(found.verdicts))
    return json_answer(found, taken)


def _about(found: MessageVerdicts) -> tuple[str, ...]:
    return (found.message["person"],) if found.message["person"] else ()


# -- pages


@get("/consent/breaches", include_in_schema=False)
async def breaches_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    begin: Annotated[str | None, QueryParameter(name="from")] = None,
    end: Annotated[str | None, QueryParameter(name="to")] = None,
    known_at: Annotated[str | None, QueryParameter()] = None,
    said_at: Annotated[str | None, QueryParameter()] = None,
) -> Response[str]:
    """Show what went out without valid consent; with `said_at` also what was said then, and why it has changed."""
    house = house_of(request)
    zone = ZoneInfo(house.core.settings.timezone)
    last = datetime.now(UTC).astimezone(zone).date()
    first_day, last_day = _day(begin), _day(end)
    first = first_day or _midnight(str(last - timedelta(days=30)), zone)
    behind = last_day or _midnight(str(last + timedelta(days=1)), zone)
    if begin and first_day is None:
        first = _midnight(begin, zone, "/from")
    if end and last_day is None:
        behind = _midnight(end, zone, "/to")
    known, then = _moment(known_at, zone), _moment(said_at, zone)

    async def asked() -> tuple[BreachReport, Changes | None, list[dict[str, Any]]]:
        report = await Breaches(house.core.pool, house.core.histories).report(
            first, behind, known_at=known, limit=_SHOWN
        )
        causes = await _ledger(house).causes(first, behind, known_at=report.known_at)
        if then is None:
            return report, None, causes
        changes = await _ledger(house).changes(
            first, behind, said_at=then, known_at=report.known_at, limit=_SHOWN
        )
        return report, changes, causes

    report, changes, causes = await through_outages(asked, within_s=3)
    listed = [*report.breaches, *(changes.changes if changes else ())]
    about = tuple(dict.fromkeys(one["person"] for one in listed if one["person"]))
    await access_recorded(request, reader, about, f"{first} {behind} {said_at or ''}", len(listed))
    return rendered(
        house,
        "breaches.html",
        principal=reader,
        here="breaches",
        report=report,
        changes=changes,
        causes=causes,
        days=_every_day(report, zone),
        tables=(
            ("Reason", report.reasons, True),
            ("Sender", report.by_sender, False),
            ("Campaign", report.by_campaign, False),
        ),
        found=sum(report.by_day.values()),
        asked_for={
            "from": begin or str(in_zone(first, zone).date()),
            "to": end or str(in_zone(behind, zone).date()),
            "known_at": known_at or "",
            "said_at": said_at or "",
        },
    )


@get("/consent/messages/{event_id:str}", include_in_schema=False)
async def message_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    event_id: Annotated[str, PathParameter()],
) -> Response[str]:
    """Show what was said of a message, by which evidence, and why it changed."""
    house = house_of(request)
    ledger = _ledger(house)

    async def asked() -> tuple[MessageVerdicts, dict[int, dict[str, Any]]]:
        found = await ledger.of(event_id)
        return found, await ledger.events({p for one in found.verdicts for p in one["evidence"]})

    found, evidence = await through_outages(asked, within_s=3)
    await access_recorded(request, reader, _about(found), event_id, len(found.verdicts))
    return rendered(house, "message.html", principal=reader, here="breaches", found=found, evidence=evidence)


def _day(text: str | None) -> datetime | None:
    """A time as it was given; None for a day, or for nothing."""
    return time_of(text, "/from") if text and "T" in text else None


def _midnight(text: str, zone: ZoneInfo, place: str = "", *, ends: bool = False) -> datetime:
    """The instant with which a day begins in a zone, or its last, however long that day is there."""
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=zone)
        return in_utc(at + timedelta(days=1, microseconds=-1) if ends else at, place)
    except ValueError:
        raise Invalid([Problem(place, "This is no day; right would be 2026-10-01.", "not_a_time")]) from None


def _moment(text: str | None, zone: ZoneInfo) -> datetime | int | None:
    """A moment of knowledge as people type it: @123, a time, or a day, which means its end."""
    if not text or text.startswith("@") or "T" in text:
        return known_at_of(text)
    return _midnight(text, zone, "/said_at", ends=True)


def _every_day(report: BreachReport, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The days of the span with their breaches, for a chart; of a long span the last 92."""
    first = in_zone(datetime.fromisoformat(report.from_), zone).date()
    last = in_zone(datetime.fromisoformat(report.to) - timedelta(microseconds=1), zone).date()
    first = date.fromordinal(max(first.toordinal(), last.toordinal() - 91))
    most = max(report.by_day.values(), default=0) or 1
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [
        {"day": str(day), "place": place, "count": (n := report.by_day.get(str(day), 0)), "share": n / most}
        for place, day in enumerate(days)
    ]


ROUTES = (list_changes, list_verdicts)
PAGES = (breaches_page, message_page)
