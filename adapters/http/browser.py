"""What a browser sees: all pages, and errors as pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response

from adapters.http import (
    channel_pages,
    explained,
    identity_pages,
    overview,
    person_pages,
    signing_in,
    verdicts,
)
from adapters.http.auth import house_of, known_principal
from adapters.http.problems import TITLES, of_exception
from adapters.http.rendering import elsewhere, rendered

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
    house = house_of(request)
    if refused.status == 401:
        query = request.scope.get("query_string", b"").decode("latin-1")
        # As it was asked for: decoded, the ? or # of an identifier would end the path.
        path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0] or request.scope["path"]
        next_ = path + (f"?{query}" if query else "") if request.method == "GET" else "/"
        return elsewhere(f"/sign-in?{urlencode({'next': next_})}" if next_ != "/" else "/sign-in")
    title = TITLES.get(refused.kind, "Error")
    return rendered(
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


ROUTES = (
    *overview.ROUTES,
    *signing_in.ROUTES,
    *person_pages.ROUTES,
    *identity_pages.ROUTES,
    *channel_pages.ROUTES,
    *explained.ROUTES,
    *verdicts.PAGES,
)
