"""Funnels: who went through which steps; lists of persons are on record before they leave."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.analysis.funnels import Members
from adapters.http.auth import house_of
from adapters.http.drawing import drawn, wants_drawing
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import (
    LARGEST_NUMBER,
    KnownAt,
    NumberAsked,
    after_of,
    json_answer,
    known_at_of,
    timed,
)
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from adapters.refusal import Refusal
from domain.errors import Invalid, Problem

__all__ = ["PROBLEMS", "ROUTES", "asked", "asked_in_zone"]

PROBLEMS = {
    400: ResponseSpec(ProblemDocument, description="The question is not valid", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="A read model is behind", generate_examples=False),
}
_NAME = Annotated[str, PathParameter(description="Name of a saved funnel")]
_MOST_BYTES = 1 << 20


async def asked_in_zone(request: Request[Any, Any, Any]) -> Any:
    """The same, where days may be cut: in the installation's time zone, unless the question names another."""
    raw = await asked(request)
    if isinstance(raw, dict) and raw.get("timezone") is None:
        return {**raw, "timezone": house_of(request).core.settings.timezone}
    return raw


async def asked(request: Request[Any, Any, Any]) -> Any:
    """The body as JSON."""
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise Refusal(413, "too-large", "A question is at most 1 MiB.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        right = (
            'a funnel is {"steps": […], "window": "P14D"}.'
            if request.url.path.startswith("/v1/funnels")
            else "/docs shows what this route takes."
        )
        raise Invalid([Problem("", f"The body is no JSON; {right}", "not_json")]) from None


@post(
    "/v1/funnels/query",
    status_code=200,
    tags=["funnels"],
    summary="How many went through the steps of a funnel, and how long they took",
    description=(
        "Steps, window, entry, order, count, unit, exclude, hold, breakdown, range, trend, timezone, as_of, known_at. The answer tells "
        "the `known_at` it was given at; asked again with it, it is the same, byte for byte. With `Accept: image/svg+xml` it is drawn."
    ),
    responses=PROBLEMS,
)
async def query_funnel(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer a question."""
    taken, raw, after = timed(), await asked_in_zone(request), after_of(request)
    core = house_of(request).core
    found = await through_outages(lambda: core.funnels.query(raw, after=after), within_s=3)
    if wants_drawing(request):
        from adapters.analysis.charts import funnel_chart
        from domain.funnels.naming import step_names

        return await drawn(funnel_chart(found, step_names(raw)), taken)
    return json_answer(found, taken)


@post(
    "/v1/funnels/persons",
    status_code=200,
    tags=["funnels"],
    summary="The persons behind a bar of a funnel, and the positions of the events that put them there",
    description=(
        "A question with `step` (from 1), `dropped` (true: who reached the step before and not this one), and where wanted `value` of the "
        "breakdown or `period` of the trend; `limit` and `cursor` page, at the moment of the first page."
    ),
    responses=PROBLEMS,
)
async def list_persons(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer with the persons of one bar."""
    taken, raw, after = timed(), await asked_in_zone(request), after_of(request)
    core = house_of(request).core
    found: Members = await through_outages(lambda: core.funnels.members(raw, after=after), within_s=3)
    about = tuple(str(m["person"]) for m in found.persons if "person" in m)
    await access_recorded(request, reader, about, "funnel", found.count)
    return json_answer(found, taken)


@put(
    "/v1/funnels/{name:str}",
    status_code=200,
    tags=["funnels"],
    summary="Keep a funnel under a name; a changed one is a new version",
    responses=PROBLEMS,
)
async def save_funnel(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], name: _NAME
) -> Response[bytes]:
    """Answer with the version that is kept."""
    raw = await asked(request)
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.funnels.save(name, raw, reader.key_id), within_s=3))


@get(
    "/v1/funnels/{name:str}",
    tags=["funnels"],
    summary="A funnel kept under a name, the newest version unless told otherwise",
    responses={404: ResponseSpec(ProblemDocument, description="There is none", generate_examples=False)},
)
async def saved_funnel(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    version: NumberAsked = None,
) -> Response[bytes]:
    """Answer with the question."""
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.funnels.saved(name, version), within_s=3))


@get(
    "/v1/funnels",
    tags=["funnels"],
    summary="The funnels kept under names, each in its newest version",
)
async def list_funnels(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer with all of them."""
    core = house_of(request).core
    return json_answer({"funnels": await through_outages(core.funnels.all_saved, within_s=3)})


_NONE = {404: ResponseSpec(ProblemDocument, description="There is none", generate_examples=False)}


@post(
    "/v1/funnels/{name:str}/snapshots",
    status_code=200,
    tags=["funnels"],
    summary="Ask a saved funnel now, and keep its answer in the records log",
    responses=_NONE | PROBLEMS,
)
async def take_snapshot(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], name: _NAME
) -> Response[bytes]:
    """Answer with the snapshot."""
    taken = timed()
    core = house_of(request).core
    found = await through_outages(lambda: core.snapshots.take(name, reader.key_id), within_s=3)
    return json_answer(found, taken)


@get(
    "/v1/funnels/{name:str}/snapshots",
    tags=["funnels"],
    summary="The answers of a saved funnel that were kept, the newest first",
    responses=_NONE,
)
async def list_snapshots(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    limit: Annotated[int, QueryParameter(description="How many", ge=1)] = 100,
) -> Response[bytes]:
    """Answer with which there are."""
    core = house_of(request).core
    found = await through_outages(lambda: core.snapshots.of(name, min(limit, 10_000)), within_s=3)
    return json_answer({"name": name, "snapshots": found})


@get(
    "/v1/funnels/{name:str}/snapshots/{number:int}",
    tags=["funnels"],
    summary="One kept answer of a saved funnel, as it was told",
    responses=_NONE,
)
async def show_snapshot(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    number: Annotated[int, PathParameter(description="Of the snapshot", ge=1, le=LARGEST_NUMBER)],
) -> Response[bytes]:
    """Answer with question and answer."""
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.snapshots.get(name, number), within_s=3))


@get(
    "/v1/funnels/{name:str}/why-changed",
    tags=["funnels"],
    summary="A past answer of a saved funnel beside that of now, and which entries of the log made the difference",
    description=(
        "The difference is split into parts that add up to it, each counted after those before: `new_events` (happened after that "
        "moment), `late_events` (had happened, were recorded later), `corrections` (with retractions), `identity` (links, merges, splits; "
        "whose an order or case is)."
    ),
    responses=_NONE | PROBLEMS,
)
async def why_funnel_changed(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    known_at: KnownAt = None,
    snapshot: Annotated[
        int | None,
        QueryParameter(description="Its number; the newest by default", ge=1, le=LARGEST_NUMBER),
    ] = None,
    since: Annotated[
        str | None,
        QueryParameter(
            description="Instead of a snapshot: what was known by a time, or a position such as @123"
        ),
    ] = None,
) -> Response[bytes]:
    """Answer with both, and the parts."""
    taken, until, then = timed(), known_at_of(known_at), known_at_of(since)
    core = house_of(request).core
    found = await through_outages(
        lambda: core.snapshots.why_changed(name, snapshot, known_at=until, since=then), within_s=3
    )
    return json_answer(found, taken)


ROUTES = (
    query_funnel, list_persons, list_funnels, save_funnel, saved_funnel,
    take_snapshot, list_snapshots, show_snapshot, why_funnel_changed,
)  # fmt: skip
"""The routes of this room."""
