"""The API explained: the OpenAPI document, and a page made from it that needs no script and no CDN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute
from litestar.types import ControllerRouterHandler

from adapters.http.auth import TAKES_ALSO, needs_key
from adapters.http.feed import STREAM_PATH
from adapters.http.problems import MEDIA_TYPE

__all__ = ["ROUTES", "documented"]

_PAGES = ("/u/", "/preferences/")
_OPEN_TO_ALL = ("/healthz", "/readyz", "/hooks/", *_PAGES)
_FORMS = {
    "/v1/consent/register": ("text/csv", "application/x-ndjson"),
    "/v1/consent/suppressions": ("text/csv", "application/x-ndjson"),
    "/v1/consent/defects": ("text/csv", "application/x-ndjson"),
    "/v1/consent/receipts/{event_id}": ("application/json", "text/plain"),
    STREAM_PATH: ("text/event-stream",),
}
"""Routes that answer in other forms than JSON, or in the one that is asked for."""

_STRUCTURED = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "With source the key: the same key is recorded once"},
        "source": {"type": "string"},
        "type": {"type": "string", "description": "Stored name, see GET /v1/types"},
        "time": {"type": "string", "format": "date-time", "description": "When it happened"},
        "subject": {"type": "string", "description": "A REF, e.g. email:ann@example.com"},
        "identifiers": {"type": "string", "description": "Further REFs, with commas between them"},
        "channel": {"type": "string"},
        "direction": {"enum": ["inbound", "outbound", "internal"]},
        "data": {"type": "object", "description": "By the JSON Schema of the type"},
    },
}


def documented(
    routes: Sequence[ControllerRouterHandler], dependencies: Mapping[str, Provide], version: str
) -> dict[str, Any]:
    """The OpenAPI document of *routes*."""
    app = Litestar(
        route_handlers=list(routes),
        dependencies=dict(dependencies),
        openapi_config=OpenAPIConfig(
            title="touchlog",
            version=version,
            description="Every touchpoint with your customers in one immutable log, and answers from it.",
            path="/_schema",
            components=Components(
                security_schemes={
                    "key": SecurityScheme(type="http", scheme="bearer", description="An API key: tl_…")
                }
            ),
            security=[{"key": []}],
        ),
        logging_config=None,
    )
    schema: dict[str, Any] = app.openapi_schema.to_schema()
    schema["paths"]["/v1/events"]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": _STRUCTURED},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "maxItems": 10_000, "items": _STRUCTURED}
            },
            "application/json": {
                "schema": {
                    "oneOf": [_STRUCTURED, {"type": "array", "maxItems": 10_000, "items": _STRUCTURED}]
                }
            },
        },
    }
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                _add_own_parameters(schema, route.path_format, handler)
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if path.startswith(_OPEN_TO_ALL):
                operation["security"] = []
            _tell_answers(operation, path)
    return schema


def _tell_answers(operation: dict[str, Any], path: str) -> None:
    """Document what the framework cannot know: the media types of answers, and what any route may refuse with."""
    answers = operation["responses"]
    for status, answer in answers.items():
        if status < "400":
            answer["content"] = _answered(answer.get("content", {}), path)
    refusals = {} if path == "/healthz" else {"503": "It cannot answer now; send the same again"}
    if "security" not in operation:
        refusals |= {
            "400": "A parameter or the body is not valid",
            "401": "No key was sent, or one that is not in force",
            "403": "The key may not do that",
        }
    for status, meaning in refusals.items():
        answers.setdefault(status, {"description": meaning, "headers": {}})
    for status, answer in answers.items():
        if status >= "400":
            answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}


def _answered(told: dict[str, Any], path: str) -> dict[str, Any]:
    """The content of a good answer: a handler that writes bytes of its own says neither their form nor their media type."""
    if path.startswith(_PAGES):
        return {"text/html": {"schema": {"type": "string"}}}
    if path in _FORMS:
        return {form: {} for form in _FORMS[path]}
    written = told.get("application/json", {}).get("schema")
    return {"application/json": {"schema": {"type": "object"}}} if written == {"type": "string"} else told


def _add_own_parameters(schema: dict[str, Any], path: str, handler: HTTPRouteHandler) -> None:
    """Document the query parameters that a handler reads by itself."""
    also = [
        {"name": name, "in": "query", "description": meaning, "required": False, "schema": {"type": "string"}}
        for name, meaning in handler.opt.get(TAKES_ALSO, {}).items()
    ]
    for method in handler.http_methods if also else ():
        operation = schema["paths"][path][method.lower()]
        operation["parameters"] = [*operation.get("parameters", []), *also]


def _schema_of(request: Request[Any, Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = request.app.state.documented()
    return found


@get("/openapi.json", include_in_schema=False, guards=[needs_key])
async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with the OpenAPI document."""
    return Response(msgspec.json.encode(_schema_of(request)), media_type="application/json")


ROUTES = (openapi,)
