"""The application: every route put together, and the one that is in front of them for speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

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
from adapters.http.auth import reader
from adapters.http.browser import is_page, page_of_problem
from adapters.http.door import Door, Receive, Scope, Send
from adapters.http.events import Intake
from adapters.http.house import House
from adapters.http.problems import MEDIA_TYPE, answer_problem, document, of_exception

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


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """An error as a person or a program can read it."""
    if is_page(request):
        return page_of_problem(request, error)
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
        exception_handlers={Exception: answer_error},
        openapi_config=None,
        state=State({"house": house, "documented": documented}),
        logging_config=None,
        debug=False,
    )
    return Front(house, inner)
