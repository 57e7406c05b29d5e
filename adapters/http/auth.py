"""Who asks: a bearer key, or a signed-in browser; and what they may do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from adapters.http.house import House
from adapters.http.problems import Refusal
from adapters.ingest import Principal

__all__ = [
    "COOKIE",
    "SESSION_S",
    "bearer_of",
    "house_of",
    "known_principal",
    "needs_key",
    "reader",
    "session_cookie",
    "signed_in",
    "unauthorised",
]

COOKIE = "touchlog_session"
SESSION_S = 12 * 3600
_SEND_A_KEY = (
    "Send a key: Authorization: Bearer tl_…; `touchlog keys add` makes one, DIR/admin.key holds the first."
)
MAY_READ = frozenset({"admin"})


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


async def needs_key(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Guard of what every key may see."""
    if await signed_in(connection) is None:
        raise unauthorised(_SEND_A_KEY)


async def reader(request: Request[Any, Any, Any]) -> Principal:
    """Somebody who may read about persons; who may not is refused, and the refusal is recorded."""
    principal = await signed_in(request)
    if principal is None:
        raise unauthorised(_SEND_A_KEY)
    if principal.role not in MAY_READ:
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
    return principal


def action_of(request: Request[Any, Any, Any]) -> str:
    """The route, as access records name it; never with the person in it."""
    return f"{request.method} {request.scope.get('path_template') or 'unknown'}"


def _asked(request: Request[Any, Any, Any]) -> str:
    query = request.scope.get("query_string", b"").decode("latin-1")
    return f"{request.scope['path']}?{query}" if query else request.scope["path"]
