"""What a browser sees: all pages, and errors as pages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from adapters.http import (
    channel_pages,
    explained,
    identity_pages,
    overview,
    person_pages,
    signing_in,
    verdicts,
)
from adapters.http.auth import house_of, known_principal, signed_in
from adapters.http.problems import TITLES, of_exception
from adapters.http.rendering import elsewhere, rendered
from adapters.postgres.outage import DATABASE_AWAY
from adapters.refusal import Refusal
from domain.errors import TouchlogError

__all__ = ["ROUTES", "is_page", "page_of_problem"]


def is_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a person looks at the answer, rather than a program."""
    path = request.scope["path"]
    return "text/html" in request.headers.get("accept", "") and not path.startswith(
        ("/v1/", "/metrics", "/healthz", "/readyz")
    )


def page_of_problem(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """An error as a page; who is not signed in comes to the door."""
    refused = of_exception(error, where=f"{request.method} {request.scope.get('path_template') or 'unknown'}")
    if refused.status == 401:
        query = request.scope.get("query_string", b"").decode("latin-1")
        # As it was asked for: decoded, the ? or # of an identifier would end the path.
        path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0] or request.scope["path"]
        next_ = path + (f"?{query}" if query else "") if request.method == "GET" else "/"
        return elsewhere(f"/sign-in?{urlencode({'next': next_})}" if next_ != "/" else "/sign-in")
    return _ProblemPage(request, refused)


class _ProblemPage(Response[str]):
    """An error as a page, rendered as it is sent: what handles an error cannot wait to hear who asks, an answer can.

    At an address that no route has nobody was asked for yet, and who is signed in keeps the navigation.
    """

    def __init__(self, request: Request[Any, Any, Any], refused: Refusal) -> None:
        super().__init__("", status_code=refused.status, media_type="text/html")
        self._request = request
        self._refused = refused

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:
        return _Rendered(self._request, self._refused)


class _Rendered(ASGIResponse):
    def __init__(self, request: Request[Any, Any, Any], refused: Refusal) -> None:
        super().__init__(status_code=refused.status, media_type="text/html")
        self._request = request
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, refused = self._request, self._refused
        principal = known_principal(request)
        if (
            principal is None and refused.status < 500
        ):  # nobody is looked up where the database may be what is wrong
            with suppress(Refusal, TouchlogError, *DATABASE_AWAY):
                principal = await signed_in(request)
        page = rendered(
            house_of(request),
            "problem.html",
            principal=principal,
            code=refused.status,
            status=refused.status,
            headers=refused.headers,
            title=TITLES.get(refused.kind, "Error"),
            detail=refused.detail,
            errors=refused.errors,
            again=request.url.path if refused.status == 400 and request.url.query else "",
        )
        await page.to_asgi_response(None, request)(scope, receive, send)


ROUTES = (
    *overview.ROUTES,
    *signing_in.ROUTES,
    *person_pages.ROUTES,
    *identity_pages.ROUTES,
    *channel_pages.ROUTES,
    *explained.ROUTES,
    *verdicts.PAGES,
)
