"""Signing in and out: a key is taken once, and a signed cookie remembers whose it was."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.params import QueryParameter

from adapters.http.auth import COOKIE, SESSION_S, house_of, session_cookie
from adapters.http.rendering import elsewhere, from_our_page, rendered

__all__ = ["ROUTES"]


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
    return rendered(house_of(request), "sign_in.html", principal=None, next=_inside(next_), problem="")


@post("/sign-in", include_in_schema=False, status_code=303)
async def sign_in(request: Request[Any, Any, Any]) -> Response[str]:
    """Take the key, and remember who it was in a signed cookie."""
    house = house_of(request)
    from_our_page(request)
    form = await request.form()
    next_ = _inside(str(form.get("next") or "/"))
    principal = await house.keys.authenticate(str(form.get("key") or "").strip())
    if principal is None:
        problem = "This key is unknown or was revoked."
        return rendered(house, "sign_in.html", principal=None, code=401, next=next_, problem=problem)
    secure = "; Secure" if house.core.settings.public_url.startswith("https://") else ""
    cookie = f"{COOKIE}={session_cookie(house, principal)}; Path=/; Max-Age={SESSION_S}; HttpOnly; SameSite=Strict{secure}"
    return elsewhere(next_, {"Set-Cookie": cookie})


@post("/sign-out", include_in_schema=False, status_code=303)
async def sign_out(request: Request[Any, Any, Any]) -> Response[str]:
    """Forget who it was."""
    from_our_page(request)
    return elsewhere("/sign-in", {"Set-Cookie": f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"})


ROUTES = (sign_in_page, sign_in, sign_out)
