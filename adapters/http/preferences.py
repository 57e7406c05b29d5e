"""The preference page: what one contact point gets, and what its owner changes about it.

As with unsubscribe links the token says all: a GET shows and changes nothing, a POST records. It works without script.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody, PathParameter

from adapters.consent.consents import Consents
from adapters.consent.preferences import Choice, Preferences, Shown
from adapters.http.auth import house_of
from adapters.http.open_pages import named, open_page
from adapters.http.problems import ProblemDocument
from adapters.http.reading import json_answer
from adapters.http.unsubscribe import link_for
from adapters.postgres.outage import through_outages
from adapters.principal import Principal

__all__ = ["ROUTES"]

_PROBLEMS = {
    404: ResponseSpec(ProblemDocument, description="The link was not made here", generate_examples=False),
}
_Token = Annotated[str, PathParameter(description="The token of a link")]


class PreferenceLinkQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For whose page a link is wanted."""

    contact: str
    person: str | None = None


def _preferences(request: Request[Any, Any, Any]) -> Preferences:
    core = house_of(request).core
    consents = Consents(core.pool, core.subjects, core.histories, region=core.ingest.region)
    return Preferences(core.pool, core.keys, core.subjects, core.ingest, consents)


def _languages(request: Request[Any, Any, Any]) -> list[str]:
    """The languages that a browser asks for, the best first; without regions."""
    asked = []
    for part in request.headers.get("accept-language", "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            asked.append((-float(weight or 1), tag.partition("-")[0].lower()))
        except ValueError:
            continue
    return list(dict.fromkeys(tag for _, tag in sorted(asked, key=lambda one: one[0]) if tag))


@post(
    "/v1/consent/preference-links",
    tags=["consent"],
    status_code=200,
    summary="A link to the preference page of one contact point",
    description="For a message's footer. It withdraws for ever; for 30 days it also allows anew, under a notice that is in force.",
    responses=_PROBLEMS,
)
async def make_preference_link(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    data: JSONBody[PreferenceLinkQuestion],
) -> Response[bytes]:
    """Answer with the link."""
    person, contact = await link_for(request, reader, data.person, data.contact)
    token = _preferences(request).token(person, contact)
    return json_answer({"url": f"{house_of(request).core.settings.public_url}/preferences/{token}"})


@get(
    "/preferences/{token:str}",
    tags=["consent"],
    summary="What one contact point gets; changes nothing",
    responses=_PROBLEMS,
)
async def show_preferences(request: Request[Any, Any, Any], token: _Token) -> Response[str]:
    """Show the choices."""
    preferences, languages = _preferences(request), _languages(request)
    shown = await through_outages(lambda: preferences.shown(token, languages=languages), within_s=3)
    return open_page("What we may send you", _form(shown, languages))


@post(
    "/preferences/{token:str}",
    tags=["consent"],
    status_code=200,
    summary="Change what one contact point gets",
    responses=_PROBLEMS,
)
async def save_preferences(request: Request[Any, Any, Any], token: _Token) -> Response[str]:
    """Record what changes, effective now."""
    preferences, form = _preferences(request), await request.form()
    # Those of the page that was read: who agrees, agrees to the text that stood there.
    read_in = form.get("languages")
    languages = _languages(request) if read_in is None else str(read_in)[:500].split(",")
    wanted = frozenset(str(value) for value in form.getall("allow", []))
    seen = frozenset(str(value) for value in form.getall("seen", []))
    nothing = form.get("nothing") == "yes"
    # Nothing is recorded before the database answers; afterwards this is not tried again.
    await through_outages(lambda: preferences.shown(token), within_s=3)
    changes = await preferences.save(token, wanted, seen=seen, nothing=nothing, languages=languages)
    told = "".join(f"<li>{_told(choice, allow)}</li>" for choice, allow in changes)
    body = (
        f"<p>This holds from now on:</p><ul>{told}</ul>"
        if told
        else "<p>Nothing was different, so nothing changed.</p>"
    )
    return open_page("Saved", f'{body}<p><a href="">Look at your choices again</a></p>')


def _told(choice: Choice, allow: bool | None) -> str:
    if choice.purpose == "*":
        return "We send you <b>nothing</b> any more that needs your consent."
    what = f"<b>{named(choice.purpose)}</b> by {named(choice.channel)}"
    if allow is None:
        return f"We do not send you {what}: what you would agree to has changed since you opened the page. Look at it again."
    return f"We may send you {what}." if allow else f"We do not send you {what} any more."


def _form(shown: Shown, languages: Sequence[str]) -> str:
    contact = html.escape(shown.contact)
    if not shown.choices:
        return f"<p>We hold no consent of yours for <b>{contact}</b>, so we send nothing there that needs one.</p>"
    choices = "".join(_choice(number, choice) for number, choice in enumerate(shown.choices))
    return (
        f"<p>These are the choices for <b>{contact}</b>. Nothing changes until you press a button.</p>"
        f'<form method="post"><input type="hidden" name="languages" value="{html.escape(",".join(languages))}">'
        f"<fieldset><legend>We may send you</legend>{choices}</fieldset>"
        "<button>Save my choices</button></form><hr>"
        '<form method="post"><input type="hidden" name="nothing" value="yes">'
        '<p>Or end all of it at once, whatever it is:</p><button class="second">Send me nothing any more</button></form>'
    )


def _choice(number: int, choice: Choice) -> str:
    """A box to tick; one that cannot be ticked says why."""
    label = f"<b>{named(choice.purpose).capitalize()}</b> by {named(choice.channel)}"
    is_open = choice.allowed or choice.offered is not None
    state = " checked" if choice.allowed else "" if is_open else " disabled"
    text = ""
    if choice.offered is not None:
        text = f'<p class="text" id="t{number}">If you tick it, you agree to this: {html.escape(str(choice.offered["text"]))}</p>'
    elif not choice.allowed:
        text = f'<p class="text" id="t{number}">We do not send it. To get it again, sign up where you did before.</p>'
    described = f' aria-describedby="t{number}"' if text else ""
    return (
        f'<div class="choice"><input type="hidden" name="seen" value="{html.escape(choice.seen)}">'
        f'<input type="checkbox" id="c{number}" name="allow" value="{html.escape(choice.key)}"{state}{described}>'
        f'<label for="c{number}">{label}</label>{text}</div>'
    )


ROUTES = (make_preference_link, show_preferences, save_preferences)
"""`/preferences/…` wants no key: the token is the right to use it."""
