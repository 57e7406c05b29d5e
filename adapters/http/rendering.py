"""Pages rendered: the templates, and the words, numbers and times that people read on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader
from litestar import Request, Response
from markupsafe import Markup, escape

from adapters.http.house import House
from adapters.principal import Principal
from domain.entry import in_zone
from domain.errors import Forbidden
from domain.units import money, span, words

__all__ = ["HERE", "Clock", "elsewhere", "from_our_page", "rendered"]

HERE = Path(__file__).parent / "pages"
_MAY_EMBED = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


_ICONS = frozenset(
    "phone email chat sms message web shop store loyalty campaign service sales field survey meeting consent identity records".split()
)
_LIKE = {
    "whatsapp": "message",
    "messenger": "message",
    "call": "phone",
    "voice": "phone",
    "pos": "store",
    "till": "store",
    "order": "shop",
    "case": "service",
    "visit": "field",
    "app": "web",
}


def _icon(channel: str) -> str:
    return channel if channel in _ICONS else _LIKE.get(channel, "other")


def _thousands(number: float) -> str:
    return f"{number:,}"


def _ago(at: datetime, now: datetime) -> str:
    """`3 min ago`, in the greatest unit alone; a time that lies ahead is `soon`."""
    seconds = (now - at).total_seconds()
    if seconds < 0:
        return "soon"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "now"


def _marked(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts)))  # noqa: S704 - escaped above


def _field(name: str) -> str:
    """The name of a field as a person says it; its unit is shown with the value."""
    for unit in ("_minor", "_s", "_pct", "_id"):
        name = name.removesuffix(unit)
    return words(name)


def _told(value: Any, name: str, siblings: Mapping[str, Any]) -> str:
    """A value with its unit."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("_minor") and isinstance(value, int):
            return money(value, siblings.get("currency")) or str(value)
        if name.endswith("_s"):
            return span(value)
        if name.endswith("_pct"):
            return f"{value:,} %"
    return _in_order(str(value))


_OVERRIDES = {0x202D: "\N{REPLACEMENT CHARACTER}", 0x202E: "\N{REPLACEMENT CHARACTER}"}


def _in_order(text: str) -> str:
    """A sender's text in the order in which it is written: an override (U+202D, U+202E) would show `gpj.exe` as `exe.jpg`.

    What right-to-left scripts need, marks and isolates, is left as it is.
    """
    return text.translate(_OVERRIDES)


class _Named(Protocol):
    """Whoever has identifiers."""

    @property
    def id(self) -> str: ...
    @property
    def subjects(self) -> list[dict[str, Any]]: ...


_CALLED = ("email", "phone", "whatsapp", "user", "crm", "loyalty_card")


def _called(person: _Named) -> str:
    """What a person is called here: the identifier that people know best."""
    for kind in _CALLED:
        for subject in person.subjects:
            if subject["kind"] == kind and subject["value"]:
                return _in_order(str(subject["value"]))
    for subject in person.subjects:
        if subject["value"]:
            return _in_order(f"{words(subject['kind'])} {subject['value']}")
    return f"Person {person.id[:8]}"


class Clock:
    """Times in the installation's zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def at(self, text: str) -> datetime:
        return in_zone(datetime.fromisoformat(text), self.zone)

    def short(self, text: str) -> str:
        return f"{self.at(text):%H:%M}"

    def full(self, text: str) -> str:
        at = self.at(text)
        return f"{at.day} {at:%B %Y, %H:%M:%S} {at.tzname()}"

    def date(self, text: str) -> str:
        at = self.at(text)
        return f"{at.day} {at:%b %Y}"

    def day(self, text: str, now: datetime) -> str:
        at = self.at(text).date()
        days = (now.astimezone(self.zone).date() - at).days
        near = {0: "Today, ", 1: "Yesterday, "}.get(days, "")
        return f"{near}{at:%A} {at.day} {at:%B %Y}"


@cache
def _style() -> str:
    """Changes when the style or a script does, so that no browser keeps an old one."""
    return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(HERE.iterdir()))).hexdigest()[:12]


@cache
def _pages(timezone: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    clock = Clock(ZoneInfo(timezone))
    environment.filters |= {
        "ago": _ago,
        "called": _called,
        "clock": clock.short,
        "clock_date": clock.date,
        "clock_full": clock.full,
        "field": _field,
        "icon": _icon,
        "in_order": _in_order,
        "marked": _marked,
        "span": span,
        "thousands": _thousands,
        "told": _told,
        "words": words,
    }
    return environment


def rendered(
    house: House,
    template: str,
    *,
    principal: Principal | None,
    code: int = 200,
    headers: Mapping[str, str] | None = None,
    **content: Any,
) -> Response[str]:
    timezone = house.core.settings.timezone if house.is_open else "UTC"
    text = (
        _pages(timezone)
        .get_template(template)
        .render(
            {
                "principal": principal,
                "here": "",
                "asked": "",
                "version": house.version,
                "style": _style(),
                **content,
            }
        )
    )
    kept_out = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _MAY_EMBED,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return Response(text, status_code=code, media_type="text/html", headers={**kept_out, **(headers or {})})


def elsewhere(path: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """Send the browser to another page of ours."""
    return Response(
        "", status_code=303, headers={"Location": path, "Cache-Control": "no-store", **(headers or {})}
    )


def from_our_page(request: Request[Any, Any, Any]) -> None:
    """Refuse a form that another site sent.

    Raises:
        Forbidden: it did.
    """
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") or (
        origin not in (None, "null") and urlsplit(origin or "").netloc != request.headers.get("host")
    ):
        raise Forbidden("This form was sent from another site; open touchlog itself and sign in there.")
