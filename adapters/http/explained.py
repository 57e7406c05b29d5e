"""The API explained to people, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get

from adapters.http.auth import house_of, signed_in
from adapters.http.problems import TITLES
from adapters.http.rendering import rendered
from adapters.refusal import Refusal
from domain.event import TYPES

__all__ = ["ROUTES"]


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
    return rendered(
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


ROUTES = (docs_page,)
