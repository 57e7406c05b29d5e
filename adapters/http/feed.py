"""The feed: every event in log order, resumable by position, as pages or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from adapters.answers.feed import LARGEST_PAGE, FeedPage
from adapters.http.auth import action_of, house_of, unauthorised
from adapters.http.house import House
from adapters.http.problems import ProblemDocument
from adapters.http.reading import json_answer, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, Problem, Unavailable

__all__ = ["ROUTES", "STREAM_PATH"]

STREAM_PATH = "/v1/events/stream"

LONGEST_WAIT_S = 30.0
HEARTBEAT_S = 10.0
_STREAM_PAGE = 500
_encode = msgspec.json.Encoder().encode

After = Annotated[
    int, QueryParameter(ge=0, description="Events behind this position; 0 is the beginning of the log.")
]
Types = Annotated[
    list[str] | None,
    QueryParameter(
        name="type", description="Only events of these stored names; may be repeated, or listed with commas."
    ),
]
Channels = Annotated[
    list[str] | None,
    QueryParameter(
        name="channel", description="Only events of these channels; may be repeated, or listed with commas."
    ),
]


def _listed(values: list[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


async def _page(
    house: House, principal: Principal, request: Request[Any, Any, Any], **question: Any
) -> FeedPage:
    async def asked() -> FeedPage:
        return await house.core.feed.page(**question)

    page = await through_outages(asked, within_s=3)
    if page.events and question["wait_s"] and await house.keys.principal(principal.key_id) is None:
        raise unauthorised("This key was revoked while it waited; `touchlog keys list` shows those in force.")
    if page.events:  # an empty page discloses nothing
        await house.core.records.access(
            principal.key_id,
            action=action_of(request),
            count=len(page.events),
            purpose=request.headers.get("touchlog-purpose"),
            detail={
                "after": question["after"],
                "next": page.next,
                "types": question["types"],
                "channels": question["channels"],
            },
        )
    return page


@get(
    "/v1/events",
    tags=["events"],
    summary="Read the log onward from a position",
    description=(
        "Events behind `after` in log order, as CloudEvents JSON with the extensions `position` and `recordedtime`. Ask again with "
        "`after` = `next`; `wait` holds the answer until something new is there. Positions have no gaps, and nothing new ever "
        "appears at or below one that was read. An `after` beyond the head is refused: the log was restored from a backup, or is another."
    ),
    responses={
        400: ResponseSpec(ProblemDocument, description="A parameter is not valid", generate_examples=False)
    },
)
async def read_events(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    after: After = 0,
    limit: Annotated[
        int,
        QueryParameter(
            ge=1, description=f"At most so many events; above {LARGEST_PAGE:,} is taken as {LARGEST_PAGE:,}."
        ),
    ] = 1000,
    types: Types = None,
    channels: Channels = None,
    wait: Annotated[
        float,
        QueryParameter(
            ge=0, description="Wait so long for a first event, in seconds; above 30 is taken as 30."
        ),
    ] = 0,
) -> Response[bytes]:
    """Answer with one page."""
    taken = timed()
    page = await _page(
        house_of(request),
        reader,
        request,
        after=after,
        limit=min(limit, LARGEST_PAGE),
        types=_listed(types),
        channels=_listed(channels),
        wait_s=min(wait, LONGEST_WAIT_S),
    )
    return json_answer(page, taken)


@get(
    STREAM_PATH,
    tags=["events"],
    summary="Follow the log as server-sent events",
    description=(
        "Each message is one event, its `id` the position; a reconnect with `Last-Event-ID` (browsers do that by themselves) goes on "
        "behind it. A comment comes every 10 s while nothing happens. Without `Last-Event-ID` and `after` the stream begins at position 1; "
        "`after=head` begins with what is new. A position beyond the head is refused: the log was restored from a backup, or is another."
    ),
)
async def follow_events(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    after: Annotated[str | None, QueryParameter(description="Begin behind this position, or `head`.")] = None,
    types: Types = None,
    channels: Channels = None,
) -> Stream:
    """Stream until the reader goes or the server stops."""
    house = house_of(request)
    last = request.headers.get("last-event-id", "").strip() or (after or "0").strip()
    if last == "head":
        start = await house.core.feed.head()
    elif last.isascii() and last.isdigit() and len(last) < 19:
        start = int(last)
    else:
        raise Invalid(
            [
                Problem(
                    "/after",
                    "Last-Event-ID and after are positions: whole numbers, or head.",
                    "not_a_position",
                )
            ]
        )
    await house.core.feed.begin(start)
    wanted = {"types": _listed(types), "channels": _listed(channels)}
    await house.core.records.access(
        reader.key_id,
        action=action_of(request),
        purpose=request.headers.get("touchlog-purpose"),
        detail={"after": start, **wanted},
    )
    return Stream(
        lambda: _messages(house, start, reader, wanted),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _messages(
    house: House, after: int, reader: Principal, wanted: dict[str, list[str]]
) -> AsyncIterator[bytes]:
    house.figures.streams.inc()
    try:
        yield b"retry: 1000\n\n"
        told_at = asyncio.get_running_loop().time()
        while not house.closing.is_set() and house.is_open:
            try:
                page = await house.core.feed.page(after=after, limit=_STREAM_PAGE, wait_s=1.0, **wanted)
                if await house.keys.principal(reader.key_id) is None:
                    yield b": the key was revoked\n\n"
                    return
            except Exception as error:  # noqa: BLE001 - the reader reconnects, and goes on behind the last id
                if not isinstance(error, Unavailable):
                    await asyncio.sleep(1)
                yield b": the log cannot be read now; reconnect\n\n"
                return
            now = asyncio.get_running_loop().time()
            if page.events:
                yield b"".join(
                    b"id: %d\ndata: %b\n\n" % (event["position"], _encode(event)) for event in page.events
                )
                told_at = now
            elif now - told_at >= HEARTBEAT_S:
                yield b": head %d\n\n" % page.head
                told_at = now
            after = page.next
    finally:
        house.figures.streams.dec()


ROUTES = (read_events, follow_events)
