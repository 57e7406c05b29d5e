"""Persons: who a REF names, and what happened with them."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.answers.finding import Finding, FoundPage
from adapters.answers.history import Filters, Page
from adapters.answers.identities import Person
from adapters.answers.persons import Persons, PersonsPage
from adapters.http.auth import action_of, house_of
from adapters.http.house import House
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, time_of, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import NotFound

__all__ = ["ROUTES", "access_recorded", "found_persons", "history_of", "person_of"]

_REF = Annotated[
    str,
    PathParameter(
        description="email:ann@example.com, phone:+4420…, loyalty_card:123, user:u-1 …, or a subject id"
    ),
]
_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="The REF or a parameter is not valid", generate_examples=False
    ),
    404: ResponseSpec(
        ProblemDocument, description="Nobody was recorded under this REF", generate_examples=False
    ),
    503: ResponseSpec(
        ProblemDocument,
        description="The read model is behind the position asked for",
        generate_examples=False,
    ),
}


async def person_of(
    request: Request[Any, Any, Any],
    reader: Principal,
    ref: str,
    as_of: str | None,
    known_at: str | None,
    *,
    recorded: bool = True,
) -> Person:
    """Who *ref* names; the access is recorded before this returns, also when nobody is found."""
    house = house_of(request)
    after, at, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)

    async def asked() -> Person:
        return await house.core.histories.identities.person(ref, as_of=at, known_at=known, after=after)

    try:
        person = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), ref, 0)
        raise
    if recorded:
        await access_recorded(request, reader, tuple(s["subject"] for s in person.subjects), ref, 1)
    return person


async def history_of(
    request: Request[Any, Any, Any],
    reader: Principal,
    ref: str,
    *,
    as_of: str | None,
    known_at: str | None,
    only: Filters,
    limit: int,
    cursor: str | None,
) -> Page:
    """One page of a history; the access is recorded before this returns."""
    house = house_of(request)
    after, at, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)

    async def asked() -> Page:
        return await house.core.histories.page(
            ref,
            as_of=at,
            known_at=known,
            only=only,
            limit=limit,
            cursor=cursor or None,
            after=after,
        )

    try:
        page = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), ref, 0)
        raise
    await access_recorded(
        request, reader, (page.person,), f"{ref} {only.q}" if only.q else ref, len(page.entries)
    )
    return page


async def access_recorded(
    request: Request[Any, Any, Any], reader: Principal, about: tuple[str, ...], query: str, count: int
) -> None:
    """Record that *reader* is about to see this; awaited before the answer leaves."""
    detail = {
        k: v
        for k in ("as_of", "known_at", "channel", "direction", "type", "since", "until", "cursor")
        if (v := request.query_params.get(k))
    }
    await house_of(request).core.records.access(
        reader.key_id,
        action=action_of(request),
        about=about,
        query=query,
        count=count,
        purpose=request.headers.get("touchlog-purpose"),
        detail=detail,
    )


async def found_persons(
    house: House, text: str, *, limit: int = 20, cursor: str | None = None, after: int = 0
) -> FoundPage:
    """The persons whom a text names: by a REF, an identifier of any common kind, or words of a name."""
    core = house.core
    finding = Finding(core.pool, core.keys, core.histories, region=core.ingest.region)
    return await finding.page(text, limit=limit, cursor=cursor, after=after)


def _persons(house: House) -> Persons:
    return Persons(house.core.pool, house.core.subjects, house.core.histories)


@get(
    "/v1/persons",
    tags=["persons"],
    summary="Find persons, or list them",
    description=(
        "With `q`: by a REF, by the value of an identifier (an e-mail address, a phone number in any spelling, a card, an order), or by "
        "words of a name, in any case and without accents, whole or their beginnings from three letters on; those that an identifier names come first. "
        "Without: all persons in the order of their ids, page by page, each with its first and last contact and its events by channel; "
        "all pages are of the moment of the first, whatever is linked, merged or recorded meanwhile."
    ),
    responses={400: _PROBLEMS[400]},
)
async def find_persons(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    q: Annotated[str | None, QueryParameter(description="What to look for", min_length=1)] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many; above 1,000 (with `q`: 200) is taken as that")
    ] = 50,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before")] = None,
) -> Response[bytes]:
    """Answer with everybody whom the text names, or with a page of everybody."""
    taken = timed()
    house = house_of(request)
    after = after_of(request)
    if q is None:

        async def listed() -> PersonsPage:
            return await _persons(house).page(limit=limit, cursor=cursor or None, after=after)

        page = await through_outages(listed, within_s=3)
        everybody = tuple(s["subject"] for person in page.persons for s in person.subjects)
        await access_recorded(request, reader, everybody, "", len(page.persons))
        return json_answer(page, taken)

    async def asked() -> FoundPage:
        return await found_persons(house, q, limit=limit, cursor=cursor or None, after=after)

    found = await through_outages(asked, within_s=3)
    about = tuple(s["subject"] for person in found.persons for s in person.subjects)
    await access_recorded(request, reader, about, q, len(found.persons))
    return json_answer(found, taken)


@get("/v1/persons/{ref:str}", tags=["persons"], summary="Who a REF names", responses=_PROBLEMS)
async def show_person(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: _REF,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer with the person, all identifiers, profile, first and last contact, and events by channel."""
    taken = timed()
    person = await person_of(request, reader, ref, as_of, known_at)
    numbers = _persons(house_of(request)).of(person, as_of=await as_of_of(request, as_of))
    return json_answer(await numbers, taken)


@get(
    "/v1/persons/{ref:str}/history",
    tags=["persons"],
    summary="Everything that happened with a person, newest first",
    description=(
        "Over all channels and all identifiers of the person. `as_of` and `known_at` cut events and the links that make the person; "
        "with both given, or with the cursor of a page, the same question answers the same bytes for ever. Header `Touchlog-After: P` "
        "waits until the read model has seen position P."
    ),
    responses=_PROBLEMS,
)
async def show_history(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: _REF,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    channel: Annotated[str | None, QueryParameter(description="Only this channel")] = None,
    direction: Annotated[str | None, QueryParameter(description="inbound, outbound or internal")] = None,
    type_: Annotated[
        str | None, QueryParameter(name="type", description="Only events of this stored name")
    ] = None,
    since: Annotated[
        str | None, QueryParameter(description="RFC 3339 time; only what happened from it on, as corrected")
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(
            description=(
                "RFC 3339 time; only what happened before it. Unlike `as_of` it cuts no link and leaves persons as they are"
            )
        ),
    ] = None,
    q: Annotated[
        str | None, QueryParameter(description="Only entries whose headline or data hold this text")
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many entries; above 1,000 is taken as 1,000")
    ] = 50,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before")] = None,
) -> Response[bytes]:
    """Answer with one page."""
    taken = timed()
    page = await history_of(
        request,
        reader,
        ref,
        as_of=as_of,
        known_at=known_at,
        only=Filters(
            channel=channel or None,
            direction=direction or None,
            type_=type_ or None,
            since=time_of(since, "/since"),
            until=time_of(until, "/until"),
            q=q or None,
        ),
        limit=limit,
        cursor=cursor,
    )
    return json_answer(page, taken)


ROUTES = (find_persons, show_person, show_history)
