"""Consent over HTTP: how a person stands, whom a sender may write to, and verdicts on what went out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter

from adapters.consent.breaches import Breaches, BreachReport
from adapters.consent.consents import Asked, Checked, Consents, EventKey, PersonConsent, Verdicts
from adapters.consent.receipts import Receipts, readable
from adapters.http.auth import house_of
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, time_of, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ROUTES"]

_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="Something asked for is not valid", generate_examples=False
    ),
    404: ResponseSpec(ProblemDocument, description="No such person", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
}
_MOST_EVENTS = 10_000
_Moment = str | int | None


class Recipient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom a sender would write to; what it leaves out is that of the whole question."""

    contact: str
    person: str | None = None
    purpose: str | None = None
    channel: str | None = None
    controller: str | None = None


class CheckQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """May these be written to? One by `contact`, or many by `recipients`."""

    purpose: str | None = None
    channel: str | None = None
    controller: str | None = None
    contact: str | None = None
    person: str | None = None
    recipients: list[Recipient] | None = None
    at: str | None = None
    known_at: _Moment = None


class VerdictsQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be said of these messages, by what was known at `known_at`?"""

    events: list[EventKey]
    known_at: _Moment = None


def _consents(request: Request[Any, Any, Any]) -> Consents:
    core = house_of(request).core
    return Consents(core.pool, core.subjects, core.histories, region=core.ingest.region)


def _known(given: _Moment) -> datetime | int | None:
    """`known_at` of a body: a time, a position such as "@123", or a position as a number."""
    if isinstance(given, bool) or (isinstance(given, int) and given < 0):
        raise Invalid(
            [Problem("/known_at", "A position is a whole number from 0, or @123.", "not_a_position")]
        )
    return given if isinstance(given, int) else known_at_of(given)


def _asked(question: CheckQuestion) -> list[Asked]:
    """The recipients of a question.

    Raises:
        Invalid: none is named, both ways at once, or without purpose or channel.
    """
    if (question.contact is None) == (question.recipients is None):
        raise Invalid(
            [Problem("", "Name one recipient by 'contact', or several by 'recipients'.", "recipients")]
        )
    several = question.recipients
    if several is None:
        assert question.contact is not None
        several = [Recipient(contact=question.contact, person=question.person)]
    found: list[Asked] = []
    problems: list[Problem] = []
    shared = question.person if question.recipients is None else None
    for number, one in enumerate(several):
        purpose, channel = one.purpose or question.purpose, one.channel or question.channel
        if purpose and channel:
            controller = one.controller or question.controller
            found.append(Asked(one.contact, purpose, channel, one.person or shared, controller))
            continue
        place = "" if question.recipients is None else f"/recipients/{number}"
        problems += [
            Problem(f"{place}/{name}", f"'{name}' is missing; consent is asked for one.", "missing")
            for name, value in (("purpose", purpose), ("channel", channel))
            if not value
        ]
    if problems:
        raise Invalid(problems[:100])
    return found


@get(
    "/v1/persons/{ref:str}/consent",
    tags=["consent"],
    summary="How a person stands: valid or not, under which notice, since when, by which facts",
    description=(
        "An answer for every purpose, channel and contact point that facts name, or for those that are asked for. `at` (or `as_of`, as elsewhere) is the moment "
        "asked about, `known_at` what was known then; asked again with what it answers, it answers the same."
    ),
    responses=_PROBLEMS,
)
async def show_consent(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: Annotated[str, PathParameter(description="A REF such as email:ann@example.com")],
    purpose: Annotated[str | None, QueryParameter(description="Only this purpose")] = None,
    channel: Annotated[str | None, QueryParameter(description="Only this channel")] = None,
    contact: Annotated[str | None, QueryParameter(description="Only this contact point, a REF")] = None,
    at: Annotated[str | None, QueryParameter(description="The moment asked about; now by default")] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer with the person's consent at one moment."""
    taken = timed()
    consents = _consents(request)
    after, when, known = after_of(request), time_of(at, "/at"), known_at_of(known_at)
    also = await as_of_of(request, as_of)
    if when is not None and also is not None and when != also:
        detail = (
            "'at' and 'as_of' name the one moment asked about, and here they differ; leave one of them out."
        )
        raise Invalid([Problem("/as_of", detail, "contradicts")])
    when = when or also

    async def asked() -> PersonConsent:
        return await consents.person(
            ref,
            purpose=purpose or None,
            channel=channel or None,
            contact=contact or None,
            at=when,
            known_at=known,
            after=after,
        )

    try:
        found = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), ref, 0)
        raise
    await access_recorded(request, reader, (found.person,), ref, len(found.facts))
    return json_answer(found, taken)


@post(
    "/v1/consent/check",
    tags=["consent"],
    status_code=200,
    summary="Before sending: may these be written to?",
    description=(
        "One recipient (`contact`, with `person` where the contact point is not its own) or up to 10,000 (`recipients`), each with `purpose` "
        "and `channel`, its own or the question's. Send `snapshot` along with each message: it says what its sender looked at."
    ),
    responses=_PROBLEMS,
)
async def check(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], data: JSONBody[CheckQuestion]
) -> Response[bytes]:
    """Answer with allowed or not, and why."""
    taken = timed()
    consents = _consents(request)
    recipients, when, known = _asked(data), time_of(data.at, "/at"), _known(data.known_at)
    after = after_of(request)

    async def asked() -> Checked:
        return await consents.check(recipients, at=when, known_at=known, after=after)

    found = await through_outages(asked, within_s=3)
    await access_recorded(request, reader, (), data.contact or "", len(found.results))
    if data.recipients is not None:
        return json_answer(found, taken)
    told = {
        name: value for name, value in msgspec.structs.asdict(found).items() if not name.endswith("_count")
    }
    (one,) = told.pop("results")
    return json_answer({**one, **told}, taken)


@post(
    "/v1/consent/verdicts",
    tags=["consent"],
    status_code=200,
    summary="Was it allowed, and did its sender know?",
    description=(
        "The verdict on each outbound touchpoint, computed from the log: the touchpoints are taken as given, `known_at` (a time, or a "
        "position such as @123) cuts off what is known of consent."
    ),
    responses=_PROBLEMS,
)
async def tell_verdicts(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], data: JSONBody[VerdictsQuestion]
) -> Response[bytes]:
    """Answer with a verdict for each event, in the order asked."""
    taken = timed()
    consents = _consents(request)
    if len(data.events) > _MOST_EVENTS:
        raise Invalid(
            [
                Problem(
                    "/events", f"At most {_MOST_EVENTS:,} events in one question; ask in parts.", "too_many"
                )
            ]
        )
    known, after = _known(data.known_at), after_of(request)

    async def asked() -> Verdicts:
        return await consents.verdicts(data.events, known_at=known, after=after)

    found = await through_outages(asked, within_s=3)
    await access_recorded(
        request, reader, (), f"{len(data.events)} events at {_spelt(known)}", len(found.verdicts)
    )
    return json_answer(found, taken)


@get(
    "/v1/consent/breaches",
    tags=["consent"],
    summary="What went out without valid consent, and why",
    description=(
        "Messages handed over in [from, to), judged by what is known at `known_at`: listed are breaches, those that could not be proven when "
        "sent, and those that say too little to be judged; counted are all. Two answers with different `known_at` tell what changed, and the "
        "positions in `evidence` because of what."
    ),
    responses=_PROBLEMS,
)
async def list_breaches(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    begin: Annotated[str, QueryParameter(name="from", description="The first instant, RFC 3339")],
    end: Annotated[str, QueryParameter(name="to", description="The first instant behind")],
    known_at: KnownAt = None,
    limit: Annotated[
        int, QueryParameter(ge=1, description="List so many; above 10,000 is taken as 10,000")
    ] = 1000,
) -> Response[bytes]:
    """Answer with the report."""
    taken = timed()
    core = house_of(request).core
    first, behind, known = time_of(begin, "/from"), time_of(end, "/to"), known_at_of(known_at)
    if first is None or behind is None:
        raise Invalid([Problem("/from", "'from' and 'to' are times, e.g. 2026-01-31T00:00:00Z.", "missing")])
    after = after_of(request)

    async def asked() -> BreachReport:
        return await Breaches(core.pool, core.histories).report(
            first, behind, known_at=known, limit=min(limit, 10_000), after=after
        )

    found = await through_outages(asked, within_s=3)
    about = tuple(dict.fromkeys(one["person"] for one in found.breaches if one["person"]))
    await access_recorded(request, reader, about, f"{begin} {end}", len(found.breaches))
    return json_answer(found, taken)


@get(
    "/v1/consent/receipts/{event_id:str}",
    tags=["consent"],
    summary="The receipt of a consent fact",
    description="With the fields of ISO/IEC TS 27560, as JSON; as text to be read where `Accept` asks for text/plain.",
    responses=_PROBLEMS,
)
async def show_receipt(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    event_id: Annotated[str, PathParameter(description="The event id of the fact")],
) -> Response[Any]:
    """Answer with the receipt."""
    taken = timed()
    core = house_of(request).core
    receipts = Receipts(core.pool, core.subjects, core.histories)
    after = after_of(request)
    found = await through_outages(lambda: receipts.of(event_id, after=after), within_s=3)
    about = (found["pii_principal_id"],) if found["pii_principal_id"] else ()
    await access_recorded(request, reader, about, event_id, 1)
    if "text/plain" in request.headers.get("accept", ""):
        headers = {"Cache-Control": "no-store", **taken.header}
        return Response(readable(found), media_type="text/plain", headers=headers)
    return json_answer(found, taken)


def _spelt(known: datetime | int | None) -> str:
    return moment(known) if isinstance(known, datetime) else "now" if known is None else f"@{known}"


ROUTES = (show_consent, check, tell_verdicts, list_breaches, show_receipt)
