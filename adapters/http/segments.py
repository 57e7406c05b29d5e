"""Segments and paths: who belongs and since when, what people do before and after; lists of persons are on record."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.analysis.segments import Members
from adapters.http.auth import house_of
from adapters.http.funnels import PROBLEMS, asked, asked_in_zone
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import NumberAsked, after_of, json_answer, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal

__all__ = ["ROUTES"]

_NONE = {404: ResponseSpec(ProblemDocument, description="There is none", generate_examples=False)}
_NAME = Annotated[str, PathParameter(description="Name of a saved segment")]


@post(
    "/v1/paths/query",
    status_code=200,
    tags=["paths"],
    summary="Which steps follow an event, and which lead to it",
    description=(
        "around, before, after, top, steps, by, gap, window, occurrence, loops, unit, range, segment, as_of, known_at. Levels, the links "
        "between them and the most frequent whole paths; asked again with its `known_at`, the answer is the same, byte for byte."
    ),
    responses=PROBLEMS,
)
async def query_paths(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer a question about paths."""
    taken, raw, after = timed(), await asked(request), after_of(request)
    core = house_of(request).core
    return json_answer(
        await through_outages(lambda: core.segments.paths(raw, after=after), within_s=3), taken
    )


@post(
    "/v1/segments/query",
    status_code=200,
    tags=["segments"],
    summary="How many belong to a segment, and how they came and went",
    description=(
        "segment: the name of a saved one (`loyal` or `loyal@2`), or its rules; range, trend, timezone, as_of, known_at. Who belongs is told "
        "of `as_of`, or where none is given of the time at which the last known position was recorded."
    ),
    responses=PROBLEMS,
)
async def query_segment(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer a question about a segment."""
    taken, raw, after = timed(), await asked_in_zone(request), after_of(request)
    core = house_of(request).core
    return json_answer(
        await through_outages(lambda: core.segments.query(raw, after=after), within_s=3), taken
    )


@post(
    "/v1/segments/persons",
    status_code=200,
    tags=["segments"],
    summary="The persons of a segment, each with the dates at which they came in and went out",
    description=(
        "segment; state: member, left, or ever; `limit` and `cursor` page. A segment with `entered` (from, to) is the cohort of those who "
        "came in then."
    ),
    responses=PROBLEMS,
)
async def list_members(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer with the persons of a segment."""
    taken, raw, after = timed(), await asked(request), after_of(request)
    core = house_of(request).core
    found: Members = await through_outages(lambda: core.segments.members(raw, after=after), within_s=3)
    await access_recorded(request, reader, tuple(m.person for m in found.persons), "segment", found.count)
    return json_answer(found, taken)


class _Every(msgspec.Struct, frozen=True):
    """The saved segments, each in its newest version."""

    segments: list[Any]


@get("/v1/segments", tags=["segments"], summary="The saved segments, each in its newest version")
async def list_segments(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer with every segment that is kept."""
    core = house_of(request).core
    return json_answer(_Every(list(await through_outages(core.segments.every, within_s=3))))


@put(
    "/v1/segments/{name:str}",
    status_code=200,
    tags=["segments"],
    summary="Keep a segment under a name; a changed one is a new version",
    responses=PROBLEMS,
)
async def save_segment(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], name: _NAME
) -> Response[bytes]:
    """Answer with the version that is kept."""
    raw = await asked(request)
    core = house_of(request).core
    return json_answer(
        await through_outages(lambda: core.segments.save(name, raw, reader.key_id), within_s=3)
    )


@get(
    "/v1/segments/{name:str}",
    tags=["segments"],
    summary="A segment kept under a name, the newest version unless told otherwise",
    responses=_NONE,
)
async def saved_segment(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    version: NumberAsked = None,
) -> Response[bytes]:
    """Answer with its rules."""
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.segments.saved(name, version), within_s=3))


ROUTES = (query_paths, query_segment, list_members, list_segments, save_segment, saved_segment)
"""The routes of this room."""
