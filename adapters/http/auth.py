"""Who asks: a bearer key, or a signed-in browser; and what they may do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from functools import cache
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import QueryParameter

from adapters.http.house import House
from adapters.principal import Principal
from adapters.refusal import Refusal
from domain.errors import Invalid, Problem

__all__ = [
    "COOKIE",
    "SESSION_S",
    "TAKES_ALSO",
    "bearer_of",
    "house_of",
    "known_principal",
    "missing_parameters",
    "needs_key",
    "parameters_are_known",
    "reader",
    "readers_only",
    "session_cookie",
    "signed_in",
    "unauthorised",
    "unknown_parameters",
]

COOKIE = "touchlog_session"
SESSION_S = 12 * 3600
_SEND_A_KEY = (
    "Send a key: Authorization: Bearer tl_…; `touchlog keys add` makes one, DIR/admin.key holds the first."
)
MAY_READ = frozenset({"admin"})
TAKES_ALSO = "takes_also"
"""Where a handler names, in its `opt`, query parameters that it reads by itself: name -> what it means."""


class _Session(msgspec.Struct, frozen=True, array_like=True):
    key_id: str
    until_s: int


def house_of(connection: ASGIConnection[Any, Any, Any, Any]) -> House:
    """The house that serves this connection."""
    house: House = connection.app.state.house
    return house


def unauthorised(detail: str) -> Refusal:
    """A key is needed, or this one is none."""
    return Refusal(401, "no-key", detail, headers={"WWW-Authenticate": 'Bearer realm="touchlog"'})


def bearer_of(header: str | None) -> str | None:
    """The key of an Authorization header; None where there is none of kind Bearer."""
    if header is None:
        return None
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _signing_key(house: House) -> bytes:
    return house.core.keys.digest("http session cookie").encode()


def session_cookie(house: House, principal: Principal, *, now_s: float | None = None) -> str:
    """The value of the cookie that stands for *principal*, signed."""
    until_s = int((time.time() if now_s is None else now_s) + SESSION_S)
    packed = (
        base64.urlsafe_b64encode(msgspec.json.encode(_Session(principal.key_id, until_s)))
        .decode()
        .rstrip("=")
    )
    return f"{packed}.{hmac.new(_signing_key(house), packed.encode(), hashlib.sha256).hexdigest()}"


async def _of_cookie(house: House, header: str | None) -> Principal | None:
    if not header:
        return None
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    if found is None:
        return None
    packed, _, signature = found.value.partition(".")
    right = hmac.new(_signing_key(house), packed.encode(), hashlib.sha256).hexdigest()
    if not signature.isascii() or not hmac.compare_digest(signature, right):
        return None
    try:
        session = msgspec.json.decode(
            base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=_Session
        )
    except (ValueError, msgspec.DecodeError):
        return None
    if session.until_s < time.time():
        return None
    return await house.keys.principal(session.key_id)


async def signed_in(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal | None:
    """Who asks, by key or by session; None where nobody is named.

    Raises:
        Refusal: a key was given that is none.
    """
    house = house_of(connection)
    key = bearer_of(connection.headers.get("authorization"))
    if key is not None:
        principal = await house.keys.authenticate(key)
        if principal is None:
            raise unauthorised(
                "This key is unknown or was revoked; `touchlog keys list` shows those in force."
            )
    else:
        principal = await _of_cookie(house, connection.headers.get("cookie"))
    connection.scope["state"]["principal"] = principal
    return principal


def known_principal(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal | None:
    """Who was found to ask earlier in this request."""
    found: Principal | None = connection.scope["state"].get("principal")
    return found


async def needs_key(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of what every key may see."""
    if await signed_in(connection) is None:
        raise unauthorised(_SEND_A_KEY)
    parameters_are_known(connection, handler)


async def readers_only(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of what tells about persons: who may not read hears that, whatever else is wrong with the question."""
    if "reader" in handler.parsed_fn_signature.parameters:
        await _may_read(Request(connection.scope))


async def reader(request: Request[Any, Any, Any]) -> Principal:
    """Somebody who may read about persons, as the guard `readers_only` found."""
    principal = known_principal(request)
    assert principal is not None, "the application has the guard readers_only"
    parameters_are_known(request, request.route_handler)
    return principal


async def _may_read(request: Request[Any, Any, Any]) -> None:
    """Refuse who may not read, and record the refusal."""
    principal = await signed_in(request)
    if principal is None:
        raise unauthorised(_SEND_A_KEY)
    if principal.role in MAY_READ:
        return
    await house_of(request).core.records.access(
        principal.key_id,
        action=action_of(request),
        query=_asked(request),
        purpose=request.headers.get("touchlog-purpose"),
        denied=True,
    )
    raise Refusal(
        403,
        "forbidden",
        f"The key {principal.key_id} is of role {principal.role} and may not read; use one of role admin.",
    )


@cache
def _taken_by(handler: HTTPRouteHandler) -> dict[str, bool]:
    """The query parameters of a route by name, and whether each may come several times."""
    found = {
        each.kwarg_definition.name or name: each.is_non_string_collection or each.has_inner_subclass_of(list)
        for name, each in handler.parsed_fn_signature.parameters.items()
        if isinstance(each.kwarg_definition, QueryParameter)
    }
    return found | dict.fromkeys(handler.opt.get(TAKES_ALSO, ()), False)


def parameters_are_known(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler | None
) -> None:
    """A documented route answers what it was asked: a parameter that it would pass over is refused by name.

    Raises:
        Invalid: a parameter that the route does not take, or one of a single value that comes twice.
    """
    if handler is not None and TAKES_ALSO in handler.opt:
        return  # it tells them itself, together with what it lacks
    if problems := unknown_parameters(connection, handler):
        raise Invalid(problems)


def unknown_parameters(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler | None
) -> list[Problem]:
    """The parameters that a documented route does not take, and those of a single value that come twice.

    Pages are left out: an address of theirs may come with what a mail program or a browser added.
    """
    query = connection.scope.get("query_string", b"")
    if not query or not isinstance(handler, HTTPRouteHandler) or not handler.resolve_include_in_schema():
        return []
    taken = _taken_by(handler)
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    problems = []
    for name in dict.fromkeys(names):
        place = "/" + name.replace("~", "~0").replace("/", "~1")
        if name not in taken:
            known = ", ".join(f"'{each}'" for each in taken)
            told = f"it takes {known}." if known else "it takes none."
            if "POST" in handler.http_methods:
                told += " What is asked for stands in the body."
            problems.append(Problem(place, f"This route has no query parameter '{name}'; {told}", "unknown"))
        elif names.count(name) > 1 and not taken[name]:
            problems.append(Problem(place, f"'{name}' is given more than once; name one value.", "repeated"))
    return problems[:100]


def missing_parameters(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler | None
) -> list[Problem]:
    """The query parameters without which a route cannot answer, and which were not given; the framework tells the first only."""
    if not isinstance(handler, HTTPRouteHandler):
        return []
    query = connection.scope.get("query_string", b"").decode("latin-1")
    given = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    return [
        Problem(f"/{called}", f"The query parameter '{called}' is missing.", "missing")
        for name, each in handler.parsed_fn_signature.parameters.items()
        if isinstance(each.kwarg_definition, QueryParameter)
        and each.is_required
        and (called := each.kwarg_definition.name or name) not in given
    ]


def action_of(request: Request[Any, Any, Any]) -> str:
    """The route, as access records name it; never with the person in it."""
    return f"{request.method} {request.scope.get('path_template') or 'unknown'}"


def _asked(request: Request[Any, Any, Any]) -> str:
    query = request.scope.get("query_string", b"").decode("latin-1")
    return f"{request.scope['path']}?{query}" if query else request.scope["path"]
