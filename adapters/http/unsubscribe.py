"""One-click unsubscribe over HTTP: links for senders, and the two things that a link answers (RFC 8058).

Programs fetch every link of a mail to look for viruses: a GET shows a page and changes nothing. The POST needs no
cookie and no key; the token says all.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter

from adapters.consent.unsubscribe import Scope, Unsubscribe
from adapters.http.auth import house_of
from adapters.http.open_pages import named, open_page
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import json_answer
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ROUTES", "link_for"]

_PROBLEMS = {
    400: ResponseSpec(ProblemDocument, description="This is no one-click request", generate_examples=False),
    404: ResponseSpec(ProblemDocument, description="The link was not made here", generate_examples=False),
}
_Token = Annotated[str, PathParameter(description="The token of a link")]


class LinkQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whom a link is wanted, and what it withdraws."""

    contact: str
    purpose: str
    channel: str = "*"
    person: str | None = None


def _unsubscribe(request: Request[Any, Any, Any]) -> Unsubscribe:
    core = house_of(request).core
    return Unsubscribe(core.keys, core.subjects, core.ingest)


async def link_for(
    request: Request[Any, Any, Any], reader: Principal, person: str | None, contact: str
) -> tuple[UUID, UUID]:
    """(person, contact point) of a link that is asked for, by their REFs; the access is on record.

    Raises:
        Invalid, NotFound.
    """
    subjects: list[UUID] = []
    for ref in (person or contact, contact):
        try:
            subjects.append(await house_of(request).core.histories.identities.subject_of(ref))
        except NotFound:
            await access_recorded(request, reader, (), ref, 0)
            raise
    await access_recorded(request, reader, (str(subjects[0]),), contact, 1)
    return subjects[0], subjects[1]


@post(
    "/v1/consent/unsubscribe-links",
    tags=["consent"],
    status_code=200,
    summary="The header pair of a one-click unsubscribe, for one message",
    description="Put both values into the message's headers, and cover both by DKIM (RFC 8058 §4). The link never expires.",
    responses=_PROBLEMS,
)
async def make_link(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], data: JSONBody[LinkQuestion]
) -> Response[bytes]:
    """Answer with the link and the two headers."""
    person, contact = await link_for(request, reader, data.person, data.contact)
    scope = Scope(person, contact, data.purpose, data.channel)
    url = f"{house_of(request).core.settings.public_url}/u/{_unsubscribe(request).token(scope)}"
    headers = {"List-Unsubscribe": f"<{url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return json_answer({"url": url, "headers": headers})


@get("/u/{token:str}", tags=["consent"], summary="A page that asks; changes nothing", responses=_PROBLEMS)
async def show_link(request: Request[Any, Any, Any], token: _Token) -> Response[str]:
    """Show what the link would withdraw, with a button."""
    scope = _unsubscribe(request).scope(token)
    return open_page(
        "Unsubscribe",
        f"<p>Press the button and we stop sending you <b>{named(scope.purpose)}</b>. Until you do, nothing changes.</p>"
        '<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">'
        "<button>Unsubscribe</button></form>",
    )


@post(
    "/u/{token:str}", tags=["consent"], status_code=200, summary="One-click unsubscribe", responses=_PROBLEMS
)
async def use_link(request: Request[Any, Any, Any], token: _Token) -> Response[str]:
    """Withdraw, effective now."""
    unsubscribe = _unsubscribe(request)
    scope = unsubscribe.scope(token)
    if str((await request.form()).get("List-Unsubscribe") or "") != "One-Click":
        raise Invalid(
            [
                Problem(
                    "/List-Unsubscribe",
                    "A one-click request has the body List-Unsubscribe=One-Click (RFC 8058); nothing was changed.",
                    "missing",
                )
            ]
        )
    await through_outages(lambda: unsubscribe.withdraw(token), within_s=3)
    return open_page(
        "You are unsubscribed",
        f"<p>We do not send you <b>{named(scope.purpose)}</b> any more. This holds from now on.</p>",
    )


ROUTES = (make_link, show_link, use_link)
"""`/u/…` wants no key: the token is the right to use it."""
