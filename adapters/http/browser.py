"""What a browser sees: overview, search, a person's timeline, the API explained, signing in and out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, FileSystemLoader
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from markupsafe import Markup, escape
from psycopg.errors import UndefinedTable

from adapters.history import Person
from adapters.http.auth import (
    COOKIE,
    SESSION_S,
    house_of,
    known_principal,
    needs_key,
    session_cookie,
    signed_in,
)
from adapters.http.house import House
from adapters.http.operations import ProjectionShown, projections
from adapters.http.persons import access_recorded, found_persons, history_of, person_of
from adapters.http.problems import TITLES, Refusal, of_exception
from adapters.http.reading import json_answer
from adapters.ingest import Principal
from adapters.postgres.outage import through_outages
from domain.errors import Forbidden
from domain.event import TYPES
from domain.units import money, span, words

__all__ = ["ROUTES", "is_page", "page_of_problem"]

_HERE = Path(__file__).parent / "pages"
_SAMPLED = 2_000
"""Of so many newest events the overview counts the channels."""
_SHOWN_IDENTIFIERS = 8
_MAY_EMBED = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


# ---- words and numbers for people -----------------------------------------------------------------------

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
    return str(value)


_CALLED = ("email", "phone", "whatsapp", "user", "crm", "loyalty_card")


def _called(person: Person) -> str:
    """What a person is called here: the identifier that people know best."""
    for kind in _CALLED:
        for subject in person.subjects:
            if subject["kind"] == kind and subject["value"]:
                return str(subject["value"])
    for subject in person.subjects:
        if subject["value"]:
            return f"{words(subject['kind'])} {subject['value']}"
    return f"Person {person.id[:8]}"


class _Clock:
    """Times in the installation's zone."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def at(self, text: str) -> datetime:
        return datetime.fromisoformat(text).astimezone(self.zone)

    def short(self, text: str) -> str:
        return f"{self.at(text):%H:%M}"

    def full(self, text: str) -> str:
        at = self.at(text)
        return f"{at.day} {at:%B %Y, %H:%M:%S} {at.tzname()}"

    def day(self, text: str, now: datetime) -> str:
        at = self.at(text).date()
        days = (now.astimezone(self.zone).date() - at).days
        near = {0: "Today, ", 1: "Yesterday, "}.get(days, "")
        return f"{near}{at:%A} {at.day} {at:%B %Y}"


@cache
def _style() -> str:
    """Changes when the style or a script does, so that no browser keeps an old one."""
    return hashlib.sha256(b"".join(f.read_bytes() for f in sorted(_HERE.iterdir()))).hexdigest()[:12]


@cache
def _pages(timezone: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    clock = _Clock(ZoneInfo(timezone))
    environment.filters |= {
        "ago": _ago,
        "called": _called,
        "clock": clock.short,
        "clock_full": clock.full,
        "field": _field,
        "icon": _icon,
        "marked": _marked,
        "span": span,
        "thousands": _thousands,
        "told": _told,
        "words": words,
    }
    return environment


def _rendered(
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


def _elsewhere(path: str, headers: Mapping[str, str] | None = None) -> Response[str]:
    """Send the browser to another page of ours."""
    return Response(
        "", status_code=303, headers={"Location": path, "Cache-Control": "no-store", **(headers or {})}
    )


# ---- errors ---------------------------------------------------------------------------------------------


def is_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person looks at the answer, rather than a program."""
    path = request.scope["path"]
    return "text/html" in request.headers.get("accept", "") and not path.startswith(
        ("/v1/", "/metrics", "/healthz", "/readyz")
    )


def page_of_problem(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """An error as a page; who is not signed in comes to the door."""
    refused = of_exception(error, where=f"{request.method} {request.scope.get('path_template') or 'unknown'}")
    house = house_of(request)
    if refused.status == 401:
        query = request.scope.get("query_string", b"").decode("latin-1")
        next_ = request.scope["path"] + (f"?{query}" if query else "") if request.method == "GET" else "/"
        return _elsewhere(f"/sign-in?{urlencode({'next': next_})}" if next_ != "/" else "/sign-in")
    title = TITLES.get(refused.kind, "Error")
    return _rendered(
        house,
        "problem.html",
        principal=known_principal(request),
        code=refused.status,
        status=refused.status,
        headers=refused.headers,
        title=title,
        detail=refused.detail,
        errors=refused.errors,
    )


# ---- signing in -----------------------------------------------------------------------------------------


def _inside(path: str) -> str:
    """*path* where it leads to a page of ours, else the overview."""
    parts = urlsplit(path)
    fits = (
        path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    )
    return path if fits and "\n" not in path and "\r" not in path else "/"


@get("/sign-in", include_in_schema=False)
async def sign_in_page(
    request: Request[Any, Any, Any], next_: Annotated[str, QueryParameter(name="next")] = "/"
) -> Response[str]:
    """Ask for the key."""
    return _rendered(house_of(request), "sign_in.html", principal=None, next=_inside(next_), problem="")


@post("/sign-in", include_in_schema=False, status_code=303)
async def sign_in(request: Request[Any, Any, Any]) -> Response[str]:
    """Take the key, and remember who it was in a signed cookie."""
    house = house_of(request)
    _from_our_page(request)
    form = await request.form()
    next_ = _inside(str(form.get("next") or "/"))
    principal = await house.keys.authenticate(str(form.get("key") or "").strip())
    if principal is None:
        problem = "This key is unknown or was revoked."
        return _rendered(house, "sign_in.html", principal=None, code=401, next=next_, problem=problem)
    secure = "; Secure" if house.core.settings.public_url.startswith("https://") else ""
    cookie = f"{COOKIE}={session_cookie(house, principal)}; Path=/; Max-Age={SESSION_S}; HttpOnly; SameSite=Strict{secure}"
    return _elsewhere(next_, {"Set-Cookie": cookie})


@post("/sign-out", include_in_schema=False, status_code=303)
async def sign_out(request: Request[Any, Any, Any]) -> Response[str]:
    """Forget who it was."""
    _from_our_page(request)
    return _elsewhere("/sign-in", {"Set-Cookie": f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"})


def _from_our_page(request: Request[Any, Any, Any]) -> None:
    """Refuse a form that another site sent.

    Raises:
        Forbidden: it did.
    """
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") or (
        origin not in (None, "null") and urlsplit(origin or "").netloc != request.headers.get("host")
    ):
        raise Forbidden("This form was sent from another site; open touchlog itself and sign in there.")


# ---- overview -------------------------------------------------------------------------------------------

_MINUTES = """
WITH marks AS (
    SELECT n, touchpoint_log.position_at(clock_timestamp() - make_interval(mins => n)) AS position
      FROM generate_series(0, 60) n
)
SELECT n, lag(position) OVER (ORDER BY n) - position FROM marks ORDER BY n DESC
"""
_CHANNELS = """
SELECT channel, count(*), max(recorded_at)
  FROM read.contact_history
 WHERE position > (SELECT position FROM touchpoint_log.head) - %s
 GROUP BY channel
 ORDER BY count(*) DESC, channel
"""


class ChannelCount(msgspec.Struct, frozen=True):
    """How many of the newest events came on one channel."""

    name: str
    count: int
    last_at: datetime


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the overview shows."""

    head: int
    last_minute: int
    per_second: str
    lag: int
    lag_state: str
    rejected: int
    projections: list[ProjectionShown]
    minutes: list[int] = []
    channels: list[ChannelCount] = []

    @property
    def most_per_minute(self) -> int:
        """The height of the chart."""
        return max(self.minutes, default=0)

    @property
    def sampled(self) -> int:
        """How many events the channels are counted of."""
        return sum(channel.count for channel in self.channels)


async def _status(house: House, *, whole: bool) -> Status:
    core = house.core
    head, shown = await projections(house)
    async with core.pool.connection() as conn:
        row = await (
            await conn.execute(
                "SELECT touchpoint_log.position_at(clock_timestamp() - interval '1 minute')", prepare=True
            )
        ).fetchone()
        minutes: list[Any] = []
        channels: list[Any] = []
        if whole:
            minutes = (await (await conn.execute(_MINUTES, prepare=True)).fetchall())[:-1]
            try:
                channels = await (await conn.execute(_CHANNELS, (_SAMPLED,))).fetchall()
            except UndefinedTable:
                channels = []  # no projector has run yet
    last_minute = head - (row[0] if row else head)
    lag = max((p.lag_positions for p in shown if p.state == "live"), default=0)
    age_s = max((p.lag_s for p in shown if p.state == "live"), default=0.0)
    rate = last_minute / 60
    return Status(
        head=head,
        last_minute=last_minute,
        per_second=f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        lag=lag,
        lag_state="up to date" if not lag else f"the first for {span(age_s) or '0 s'}",
        rejected=(await core.rejected.counts()).get("open", 0),
        projections=shown,
        minutes=[n for _, n in minutes],
        channels=[ChannelCount(*row) for row in channels],
    )


@get("/", include_in_schema=False)
async def overview(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Show how the log and its read models stand."""
    house = house_of(request)
    status = await through_outages(lambda: _status(house, whole=True), within_s=3)
    return _rendered(
        house, "overview.html", principal=reader, here="overview", status=status, now=datetime.now(UTC)
    )


@get("/pages/status", include_in_schema=False, guards=[needs_key])
async def status_now(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with the figures that change, for the page's script."""
    return json_answer(await _status(house_of(request), whole=False))


@get("/pages/{name:str}", include_in_schema=False)
async def page_file(name: Annotated[str, PathParameter()]) -> Response[bytes]:
    """Give a style, a script or the icons; no key is asked for, nothing of anybody stands in them."""
    file = _HERE / Path(name).name
    media_type = _MEDIA_TYPES.get(file.suffix)
    if media_type is None or not file.is_file():
        raise Refusal(404, "not-found", "There is no such file.")
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(file.read_bytes(), media_type=media_type, headers=headers)


# ---- persons --------------------------------------------------------------------------------------------


@post("/search", include_in_schema=False, status_code=200)
async def search(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Find persons; what was asked for stands in no address, and so in no proxy's log."""
    house = house_of(request)
    _from_our_page(request)
    text = str((await request.form()).get("q") or "").strip()
    persons = await through_outages(lambda: found_persons(house, text), within_s=3) if text else []
    about = tuple(s["subject"] for person in persons for s in person.subjects)
    await access_recorded(request, reader, about, text, len(persons))
    if len(persons) == 1:
        return _elsewhere(f"/persons/{persons[0].id}")
    return _rendered(house, "found.html", principal=reader, persons=persons, asked=text)


@get("/persons/{ref:str}", include_in_schema=False)
async def person_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    ref: Annotated[str, PathParameter()],
    as_of: Annotated[str | None, QueryParameter()] = None,
    known_at: Annotated[str | None, QueryParameter()] = None,
    channel: Annotated[str | None, QueryParameter()] = None,
    direction: Annotated[str | None, QueryParameter()] = None,
    q: Annotated[str | None, QueryParameter()] = None,
    cursor: Annotated[str | None, QueryParameter()] = None,
) -> Response[str]:
    """Show a person's timeline."""
    house = house_of(request)
    asked_for = {"channel": channel, "direction": direction, "q": q, "as_of": as_of, "known_at": known_at}
    page = await history_of(
        request,
        reader,
        ref,
        as_of=as_of,
        known_at=known_at,
        channel=channel,
        direction=direction,
        type_=None,
        q=q,
        limit=50,
        cursor=cursor,
    )
    person = await person_of(request, reader, ref, as_of, known_at, recorded=False)
    given = {name: value for name, value in asked_for.items() if value}
    return _rendered(
        house,
        "person.html",
        principal=reader,
        person=person,
        page=page,
        shown_subjects=person.subjects[:_SHOWN_IDENTIFIERS],
        more_subjects=person.subjects[_SHOWN_IDENTIFIERS:],
        days=_days(page.entries, ZoneInfo(house.core.settings.timezone)),
        asked_for=asked_for,
        filtered=bool(given),
        channels=_channels(page.entries, channel),
        next=urlencode({**given, "cursor": page.next}) if page.next else "",
    )


def _days(entries: Sequence[dict[str, Any]], zone: ZoneInfo) -> list[dict[str, Any]]:
    """The entries of a page, day by day in the installation's zone."""
    clock, now = _Clock(zone), datetime.now(UTC)
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


# ---- the API explained ----------------------------------------------------------------------------------


@get("/docs", include_in_schema=False)
async def docs_page(request: Request[Any, Any, Any]) -> Response[str]:
    """Explain the API, from its OpenAPI document."""
    house = house_of(request)
    principal = await signed_in(request)
    if principal is None:
        raise Refusal(
            401, "no-key", "Sign in, or send a key.", headers={"WWW-Authenticate": 'Bearer realm="touchlog"'}
        )
    schema = request.app.state.documented()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            groups.setdefault((operation.get("tags") or ["more"])[0], []).append(
                _operation(path, method, operation)
            )
    return _rendered(
        house,
        "docs.html",
        principal=principal,
        here="docs",
        info=schema["info"],
        groups=list(groups.items()),
        types=[
            {
                "name": t.name,
                "channel": t.channel,
                "description": (t.cls.__doc__ or "").strip().partition("\n")[0],
            }
            for _, t in sorted(TYPES.items())
            if not t.internal
        ],
        problems=sorted(TITLES.items()),
        url=house.core.settings.public_url,
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    anchor = f"{method}{path}".replace("/", "-").replace("{", "").replace("}", "").rstrip("-")
    return {
        "path": path,
        "method": method,
        "anchor": anchor,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "parameters": operation.get("parameters", []),
        "body": list(operation.get("requestBody", {}).get("content", {})),
        "responses": [
            (status, answer.get("description", ""))
            for status, answer in sorted(operation.get("responses", {}).items())
        ],
    }


ROUTES = (overview, status_now, page_file, sign_in_page, sign_in, sign_out, search, person_page, docs_page)
