"""The application: every route put together, and the one that is in front of them for speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from adapters.http import docs, events, feed, operations, persons, types
from adapters.http.auth import reader
from adapters.http.events import Intake, Receive, Scope, Send
from adapters.http.house import House
from adapters.http.problems import answer_problem

__all__ = ["build"]


def routes() -> Sequence[ControllerRouterHandler]:
    """Every documented route."""
    return (
        *events.ROUTES,
        *feed.ROUTES,
        *persons.ROUTES,
        *types.ROUTES,
        *operations.ROUTES,
    )


class Front:
    """The outermost application: POST /v1/events goes straight to its intake, all else through the framework."""

    def __init__(self, house: House, inner: Litestar) -> None:
        self._intake = Intake(house)
        self._inner = inner
        self._requests = house.figures.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == "/v1/events":
            await self._intake(scope, receive, send)
            return

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("path_template") or "unknown"
                self._requests.labels(f"{scope['method']} {route}", str(message["status"])).inc()
            await send(message)

        await self._inner(scope, receive, counted if scope["type"] == "http" else send)  # type: ignore[arg-type]


def build(house: House) -> Front:
    """The ASGI application that serves from *house*."""
    dependencies = {"reader": Provide(reader)}
    inner = Litestar(
        route_handlers=[*routes(), *docs.ROUTES],
        dependencies=dependencies,
        exception_handlers={Exception: answer_problem},
        openapi_config=None,
        state=State(
            {"house": house, "documented": lambda: docs.documented(routes(), dependencies, house.version)}
        ),
        logging_config=None,
        debug=False,
    )
    return Front(house, inner)
