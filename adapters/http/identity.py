"""Identity by HTTP: merge, split, link, why, and what was refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.answers.identity_why import Refusals, Why, Whys, kinds_table
from adapters.http.auth import house_of, needs_key
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, timed
from adapters.intake.identity_changes import Change, IdentityChanges
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ROUTES", "changes_of", "whys_of"]

MOST_REFS = 10_000
T = TypeVar("T")


class MergeWish(msgspec.Struct, forbid_unknown_fields=True):
    """Two REFs whose persons are to be one."""

    a: str
    b: str
    reason: str = ""
    dry_run: bool = False


class SplitWish(msgspec.Struct, forbid_unknown_fields=True):
    """A merge that is to be undone, or a subject that is to leave its person."""

    merge: str | None = None
    person: str | None = None
    subject: str | None = None
    reason: str = ""
    dry_run: bool = False


class Refs(msgspec.Struct, forbid_unknown_fields=True):
    """REFs to be resolved together."""

    refs: list[str]


_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="A value is not valid; see errors", generate_examples=False
    ),
    404: ResponseSpec(ProblemDocument, description="Nobody, or no such event", generate_examples=False),
    409: ResponseSpec(ProblemDocument, description="It is so already", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
}


def _wish(body: bytes, type_: type[T], right: str) -> T:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid([Problem("", f"{error}; right would be {right}.", "invalid")]) from None


def changes_of(request: Request[Any, Any, Any]) -> IdentityChanges:
    core = house_of(request).core
    return IdentityChanges(core.pool, core.ingest, core.histories, core.subjects)


async def _changed(
    request: Request[Any, Any, Any],
    reader: Principal,
    asked: Callable[[], Awaitable[Change]],
    *refs: str | None,
) -> Response[bytes]:
    """Do it, put on record whose identifiers the answer tells, and answer."""
    taken = timed()
    words = " ".join(ref for ref in refs if ref)
    try:
        change = await asked()
    except NotFound:
        await access_recorded(request, reader, (), words, 0)
        raise
    about = tuple(s["subject"] for side in (change.a, change.b) for s in side.identifiers)
    await access_recorded(request, reader, about, words, 2)
    return json_answer(change, taken)


@post(
    "/v1/persons/merge",
    tags=["persons"],
    summary="Join two persons, in spite of any guard",
    description=(
        'The body is `{"a": REF, "b": REF, "reason": text, "dry_run": false}`. With `dry_run` the answer shows what would be joined: '
        "identifiers, events and consents on each side. A merge is an event, no recorded event is touched; `undo` of the answer is what "
        "POST /v1/persons/split takes to undo it exactly. The same merge sent again is answered as `duplicate`."
    ),
    responses=_PROBLEMS,
    status_code=200,
)
async def merge_persons(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer when the merge is durable."""
    wish = _wish(
        await request.body(),
        MergeWish,
        '{"a": "email:ann@example.com", "b": "crm:42", "reason": "same customer", "dry_run": true}',
    )

    async def asked() -> Change:
        return await changes_of(request).merge(
            wish.a, wish.b, reader, reason=wish.reason, dry_run=wish.dry_run
        )

    return await _changed(request, reader, asked, wish.a, wish.b)


@post(
    "/v1/persons/split",
    tags=["persons"],
    summary="Undo a merge, or take a subject out of its person",
    description=(
        'The body is `{"merge": event}` with the id or position (`@123`) of the event that records the merge, or '
        '`{"person": REF, "subject": id}`, each with `reason` and `dry_run`. The first undoes that merge exactly, as if it had never '
        "been; after the second no evidence brings the two sides together again, only a later merge."
    ),
    responses=_PROBLEMS,
    status_code=200,
)
async def split_persons(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer when the split is durable."""
    right = '{"merge": "the id of its event", "reason": "two customers"} or {"person": "crm:42", "subject": "its id", "reason": "…"}'
    wish = _wish(await request.body(), SplitWish, right)
    by_merge, by_subject = wish.merge is not None, wish.person is not None and wish.subject is not None
    if by_merge == by_subject or (by_merge and (wish.person is not None or wish.subject is not None)):
        raise Invalid(
            [
                Problem(
                    "",
                    f"Name a merge, or a person and a subject, not both; right would be {right}.",
                    "invalid",
                )
            ]
        )

    async def asked() -> Change:
        changes = changes_of(request)
        if wish.merge is not None:
            return await changes.undo(wish.merge, reader, reason=wish.reason, dry_run=wish.dry_run)
        assert wish.person is not None
        assert wish.subject is not None
        return await changes.part(wish.person, wish.subject, reader, reason=wish.reason, dry_run=wish.dry_run)

    return await _changed(request, reader, asked, wish.merge, wish.person, wish.subject)


@post(
    "/v1/persons/link",
    tags=["persons"],
    summary="State that two identifiers are of one person",
    description="As `merge`, but a link is evidence: the limits per kind and splits may refuse it.",
    responses=_PROBLEMS,
    status_code=200,
)
async def link_identifiers(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer when the link is durable."""
    wish = _wish(
        await request.body(),
        MergeWish,
        '{"a": "email:ann@example.com", "b": "phone:+442079460123", "reason": "told on the phone"}',
    )

    async def asked() -> Change:
        return await changes_of(request).link(
            wish.a, wish.b, reader, reason=wish.reason, dry_run=wish.dry_run
        )

    return await _changed(request, reader, asked, wish.a, wish.b)


@post(
    "/v1/persons/resolve",
    tags=["persons"],
    summary="The persons whom many REFs name",
    description=f'The body is `{{"refs": [REF, …]}}`, at most {MOST_REFS:,}; the answer gives the id of each person as resolved now, null where nobody was recorded.',
    responses={400: _PROBLEMS[400]},
    status_code=200,
)
async def resolve_refs(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer for all at once."""
    taken = timed()
    wish = _wish(await request.body(), Refs, '{"refs": ["email:ann@example.com", "crm:42"]}')
    if len(wish.refs) > MOST_REFS:
        raise Invalid(
            [
                Problem(
                    "/refs", f"{len(wish.refs):,} REFs; at most {MOST_REFS:,} are taken at once.", "too_many"
                )
            ]
        )
    core = house_of(request).core
    if after := after_of(request):
        await core.histories.moments.wait_until(after)
    found, head = await core.histories.identities.persons_of(wish.refs)
    about = tuple(dict.fromkeys(str(p) for p in found.values() if p is not None))
    await access_recorded(request, reader, about, " ".join(wish.refs), len(about))
    persons = [{"ref": ref, "person": str(p) if (p := found[ref]) else None} for ref in wish.refs]
    return json_answer({"persons": persons, "head": head}, taken)


def whys_of(request: Request[Any, Any, Any]) -> Whys:
    core = house_of(request).core
    return Whys(core.pool, core.histories, core.subjects)


@get(
    "/v1/persons/{ref:str}/why",
    tags=["persons"],
    summary="Why this is one person",
    description=(
        "All identifiers; the links in force, each with the events that are its evidence and whether a source or a command stated it; "
        "merges and splits; links that were refused, and why; and the history of the identity in the order in which it became known."
    ),
    responses=_PROBLEMS,
)
async def show_why(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: Annotated[str, PathParameter(description="email:…, phone:+…, crm:…, user:… or a subject id")],
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer for one moment."""
    taken = timed()
    after, at, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)

    async def asked() -> Why:
        return await whys_of(request).why(ref, as_of=at, known_at=known, after=after)

    try:
        why = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), ref, 0)
        raise
    await access_recorded(request, reader, tuple(s["subject"] for s in why.identifiers), ref, 1)
    return json_answer(why, taken)


@get(
    "/v1/persons/refused",
    tags=["persons"],
    summary="Links that are refused, and why",
    description=(
        "As resolved now: a limit per kind would be passed, or a split keeps two sides apart. A merge joins in spite of it. "
        "Each page is as resolved at its own `head`: where that is another than the page before had, the links of "
        "identifiers that became known together meanwhile may come twice or not at all; all others come once."
    ),
    responses={400: _PROBLEMS[400]},
)
async def list_refused(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many; above 1,000 is taken as 1,000")
    ] = 50,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before")] = None,
) -> Response[bytes]:
    """Answer with one page."""
    taken = timed()
    after = after_of(request)

    async def asked() -> Refusals:
        return await whys_of(request).refused(limit=limit, cursor=cursor or None, after=after)

    page = await through_outages(asked, within_s=3)
    about = tuple(dict.fromkeys(end["subject"] for r in page.refused for end in (r["a"], r["b"])))
    await access_recorded(request, reader, about, "", len(page.refused))
    return json_answer(page, taken)


@get(
    "/v1/persons/kinds",
    guards=[needs_key],
    tags=["persons"],
    summary="What holds for each kind of identifier",
    description="Priority among the identifiers of an event, how many values one person may have by evidence, namespaces, references.",
)
async def list_kinds() -> Response[bytes]:
    """Answer with the one table."""
    return json_answer(kinds_table())


ROUTES = (
    merge_persons,
    split_persons,
    link_identifiers,
    resolve_refs,
    show_why,
    list_refused,
    list_kinds,
)
