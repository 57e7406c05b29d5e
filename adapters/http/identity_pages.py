"""Pages about who is who: why somebody is one person, changes with a look before they are made, refused links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from adapters.answers.identity_why import Refusals, Why
from adapters.http.auth import house_of
from adapters.http.identity import changes_of, whys_of
from adapters.http.persons import access_recorded
from adapters.http.problems import of_exception
from adapters.http.reading import as_of_of, known_at_of
from adapters.http.rendering import elsewhere, from_our_page, rendered
from adapters.intake.identity_changes import Change, IdentityChanges
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, NotFound, TouchlogError

__all__ = ["ROUTES"]

_REFUSED_SHOWN = 50
_LOOK = "a look at what would change"
"""Stands where the reason is still to be said: a dry run records nothing."""


@get("/persons/{ref:str}/why", include_in_schema=False)
async def why_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: Annotated[str, PathParameter()],
    as_of: Annotated[str | None, QueryParameter()] = None,
    known_at: Annotated[str | None, QueryParameter()] = None,
    after: Annotated[int, QueryParameter(ge=0)] = 0,
) -> Response[str]:
    """Show why somebody is one person."""
    house = house_of(request)
    at, known = await as_of_of(request, as_of or None), known_at_of(known_at or None)

    async def asked() -> Why:
        return await whys_of(request).why(ref, as_of=at, known_at=known, after=after)

    try:
        why = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), ref, 0)
        raise
    await access_recorded(request, reader, tuple(s["subject"] for s in why.identifiers), ref, 1)
    return rendered(
        house,
        "why.html",
        principal=reader,
        why=why,
        asked_for={"as_of": as_of, "known_at": known_at},
        now_asked=not (as_of or known_at),
    )


@post("/persons/change", include_in_schema=False, status_code=200)
async def change_page(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Show what a merge, a link or a split would change; then, with a reason and on command, record it."""
    from_our_page(request)
    form = {name: str(value).strip() for name, value in (await request.form()).items()}
    is_sure = form.get("sure") == "yes"
    problem, code = "", 200
    change: Change | None = None

    async def record() -> Change:
        return await _asked(changes_of(request), reader, form, form.get("reason", ""), dry_run=False)

    async def look() -> Change:
        return await _asked(changes_of(request), reader, form, form.get("reason") or _LOOK, dry_run=True)

    if is_sure:
        change, problem, code = await _tried(record)
        if change is not None:
            await _seen(request, reader, change, form)
            return elsewhere(f"/persons/{change.a.person}/why?after={change.position or 0}")
    shown, refused, refused_code = await _tried(look)
    if shown is None:  # whatever was wrong at first, there is nothing to be looked at
        problem, code = refused, refused_code
        await access_recorded(request, reader, (), " ".join(_named(form)), 0)
    else:
        await _seen(request, reader, shown, form)
    return rendered(
        house_of(request),
        "change.html",
        principal=reader,
        code=code,
        form=form,
        change=shown,
        problem=problem,
    )


async def _asked(
    changes: IdentityChanges, reader: Principal, form: dict[str, str], reason: str, *, dry_run: bool
) -> Change:
    """The change that a form speaks of.

    Raises:
        Invalid, NotFound, Already, Behind.
    """
    what = form.get("change", "")
    if what in ("merge", "link"):
        a, b = form.get("a", ""), form.get("b", "")
        made = changes.merge if what == "merge" else changes.link
        return await made(a, b, reader, reason=reason, dry_run=dry_run)
    if what == "split" and form.get("merge"):
        return await changes.undo(form["merge"], reader, reason=reason, dry_run=dry_run)
    if what == "split":
        return await changes.part(
            form.get("person", ""), form.get("subject", ""), reader, reason=reason, dry_run=dry_run
        )
    raise Invalid("A change is merge, link or split; begin from the page of a person.")


async def _tried(made: Callable[[], Awaitable[Change]]) -> tuple[Change | None, str, int]:
    """(the change, why there is none, the answer's code)."""
    try:
        return await made(), "", 200
    except TouchlogError as refused:
        found = of_exception(refused, where="POST /persons/change")
        return None, " ".join(p.detail for p in found.errors) or found.detail, found.status


def _named(form: dict[str, str]) -> list[str]:
    return [form[name] for name in ("a", "b", "person", "subject", "merge") if form.get(name)]


async def _seen(
    request: Request[Any, Any, Any], reader: Principal, change: Change, form: dict[str, str]
) -> None:
    about = tuple(s["subject"] for side in (change.a, change.b) for s in side.identifiers)
    await access_recorded(request, reader, about, " ".join(_named(form)), 2)


@get("/refused", include_in_schema=False)
async def refused_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    cursor: Annotated[str | None, QueryParameter()] = None,
) -> Response[str]:
    """Show links that are refused, and why."""

    async def asked() -> Refusals:
        return await whys_of(request).refused(limit=_REFUSED_SHOWN, cursor=cursor or None)

    page = await through_outages(asked, within_s=3)
    about = tuple(dict.fromkeys(end["subject"] for r in page.refused for end in (r["a"], r["b"])))
    await access_recorded(request, reader, about, "", len(page.refused))
    return rendered(
        house_of(request), "refused.html", principal=reader, here="refused", page=page, further=bool(cursor)
    )


ROUTES = (why_page, change_page, refused_page)
