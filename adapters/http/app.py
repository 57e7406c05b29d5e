"""The application: every route put together, and the one that is in front of them for speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ValidationException
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, ControllerRouterHandler

from adapters.http import (
    browser,
    channels,
    consent,
    consent_exports,
    consent_questions,
    conversations,
    docs,
    duplicates,
    events,
    feed,
    funnels,
    hooks,
    identity,
    operations,
    persons,
    preferences,
    rebuilds,
    retention,
    segment,
    segments,
    trail,
    types,
    unsubscribe,
    verdicts,
    volumes,
)
from adapters.http.auth import missing_parameters, reader, readers_only, unknown_parameters
from adapters.http.browser import is_page, page_of_problem
from adapters.http.door import Door, Receive, Scope, Send
from adapters.http.events import Intake
from adapters.http.house import House
from adapters.http.problems import MEDIA_TYPE, answer_problem, document, of_exception
from domain.errors import Invalid

__all__ = ["build"]

STARTS_WITHIN_S = 2.0
"""A request that comes while the process starts waits so long, rather than being told to come again."""


def routes() -> Sequence[ControllerRouterHandler]:
    """Every documented route."""
    return (
        *events.ROUTES,
        *segment.ROUTES,
        *hooks.ROUTES,
        *channels.ROUTES,
        *feed.ROUTES,
        *persons.ROUTES,
        *identity.ROUTES,
        *duplicates.ROUTES,
        *conversations.ROUTES,
        *volumes.ROUTES,
        *funnels.ROUTES,
        *retention.ROUTES,
        *segments.ROUTES,
        *trail.ROUTES,
        *consent.ROUTES,
        *consent_exports.ROUTES,
        *consent_questions.ROUTES,
        *verdicts.ROUTES,
        *unsubscribe.ROUTES,
        *preferences.ROUTES,
        *types.ROUTES,
        *operations.ROUTES,
        *rebuilds.ROUTES,
    )


class Front:
    """The outermost application: what brings events goes straight to its door, all else through the framework."""

    def __init__(self, house: House, inner: Litestar) -> None:
        self._house = house
        self._doors: dict[str, Door] = {"/v1/events": Intake(house)}
        self._hooks = hooks.HooksDoor(house)
        self._doors |= dict.fromkeys(segment.PATHS, segment.SegmentDoor(house))
        self._inner = inner
        self._requests = house.figures.requests
        self._methods: dict[str, set[str]] = {}
        for route in inner.routes:
            if isinstance(route, HTTPRoute):
                self._methods.setdefault(route.path, set()).update(route.methods)

    def _allowed(self, scope: Scope, told: bytes) -> bytes:
        """Every method of an address: the framework tells those of one handler, and not that HEAD goes as GET."""
        methods = self._methods.get(scope.get("path_template") or "", set()) | set(told.decode().split(", "))
        if "GET" in methods and scope["path"] != feed.STREAM_PATH:
            methods.add("HEAD")
        return ", ".join(sorted(methods)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            door = self._doors.get(scope["path"]) if scope["method"] == "POST" else None
            if scope["path"].startswith(hooks.PREFIX) and scope["method"] in ("POST", "GET", "HEAD"):
                door = self._hooks
            if door is not None:
                await door(scope, receive, send)
                return

        if scope["type"] != "http":
            await self._inner(scope, receive, send)  # type: ignore[arg-type]
            return
        scope = _one_part_each(scope)
        if not self._house.is_open and scope["path"] != "/healthz":
            await self._house.until_open(STARTS_WITHIN_S)
        if scope["method"] == "HEAD" and scope["path"] != feed.STREAM_PATH:
            # RFC 9110 §9.3.2: as GET, without the content, which the server below leaves out; probes ask so.
            scope = {**scope, "method": "GET"}
        begun = False

        async def counted(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                route = scope.get("path_template") or "unknown"
                if message["status"] in (204, 405):
                    message["headers"] = [
                        (name, self._allowed(scope, value) if name == b"allow" else value)
                        for name, value in message["headers"]
                    ]
                self._requests.labels(f"{scope['method']} {route}", str(message["status"])).inc()
            await send(message)

        try:
            await self._inner(scope, receive, counted)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - the last resort: a problem document, no stack trace
            refused = of_exception(
                error, where=f"{scope['method']} {scope.get('path_template') or 'unknown'}"
            )
            if begun:
                raise ConnectionAbortedError from None  # nothing can be said any more but that it ended
            body = document(refused)
            headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
            await counted({"type": "http.response.start", "status": refused.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})


_SLASH = "\x1f"
"""Stands for a slash within a part of a path while the route is looked for. No name holds this character."""


def _one_part_each(scope: Scope) -> Scope:
    """The request with each percent-encoded slash kept inside its part of the path (RFC 3986 §2.2).

    The server decodes a path whole, and `/v1/persons/user:a%2Fb/history` would be of another route.
    """
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" not in raw and b"%2F" not in raw:
        return scope
    text = raw.partition(b"?")[0].decode("latin-1").replace("%2F", _SLASH).replace("%2f", _SLASH)
    return {**scope, "path": unquote(text)}


def _slashes(app: ASGIApp) -> ASGIApp:
    """Give the handlers the slashes that `_one_part_each` kept out of the way."""

    async def restored(scope: Any, receive: Any, send: Any) -> None:
        if _SLASH in scope["path"]:
            named = scope["path_params"]
            scope["path"] = scope["path"].replace(_SLASH, "%2F")
            scope["path_params"] = {
                k: v.replace(_SLASH, "/") if isinstance(v, str) else v for k, v in named.items()
            }
        await app(scope, receive, send)

    return restored


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """An error as a person or a program can read it."""
    if is_page(request):
        return page_of_problem(request, error)
    if isinstance(error, ValidationException):
        handler = request.scope.get("route_handler")
        if missing := missing_parameters(request, handler):  # it may stand there under a misspelt name
            return answer_problem(request, Invalid([*missing, *unknown_parameters(request, handler)]))
    return answer_problem(request, error)


def build(house: House) -> Front:
    """The ASGI application that serves from *house*."""
    dependencies = {"reader": Provide(reader)}

    @cache
    def documented() -> dict[str, Any]:
        return docs.documented(routes(), dependencies, house.version)

    inner = Litestar(
        route_handlers=[*routes(), *docs.ROUTES, *browser.ROUTES, *consent_questions.PAGES],
        dependencies=dependencies,
        guards=[readers_only],
        middleware=[_slashes],
        exception_handlers={Exception: answer_error},
        openapi_config=None,
        state=State({"house": house, "documented": documented}),
        logging_config=None,
        debug=False,
    )
    return Front(house, inner)
