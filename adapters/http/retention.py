"""Retention: of those who did one thing, how many did another again; lists of persons are on record before they leave."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.http.auth import house_of
from adapters.http.drawing import drawn, wants_drawing
from adapters.http.funnels import PROBLEMS, asked, asked_in_zone
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import NumberAsked, after_of, json_answer, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal

__all__ = ["ROUTES"]

_NAME = Annotated[str, PathParameter(description="Name of a saved retention")]


@post(
    "/v1/retention/query",
    status_code=200,
    tags=["funnels"],
    summary="How many of those who started returned, by cohort and interval",
    description=(
        "start, return (as start), interval (day, week, month), intervals, entry (first, any), returns (any, first, on_or_after), mode "
        "(calendar, rolling), unit, breakdown, range, timezone, as_of, known_at. The answer tells the `known_at` it was given at; asked "
        "again with it, it is the same, byte for byte. With `Accept: image/svg+xml` it is drawn."
    ),
    responses=PROBLEMS,
)
async def query_retention(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
) -> Response[bytes]:
    """Answer a question."""
    taken, raw, after = timed(), await asked_in_zone(request), after_of(request)
    core = house_of(request).core
    found = await through_outages(lambda: core.retentions.query(raw, after=after), within_s=3)
    if wants_drawing(request):
        from adapters.analysis.charts import retention_chart

        return await drawn(retention_chart(found), taken)
    return json_answer(found, taken)


@post(
    "/v1/retention/persons",
    status_code=200,
    tags=["funnels"],
    summary="The persons behind a cell of a retention, each with the positions of its start and its return",
    description=(
        "A question with `cohort`, `in_interval` (from 0), `returned` (false: who did not), and where wanted `value` of the breakdown; "
        "`limit` and `cursor` page."
    ),
    responses=PROBLEMS,
)
async def list_retained(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer with the persons of one cell."""
    taken, raw, after = timed(), await asked_in_zone(request), after_of(request)
    core = house_of(request).core
    found = await through_outages(lambda: core.retentions.members(raw, after=after), within_s=3)
    about = tuple(str(m["person"]) for m in found.persons if "person" in m)
    await access_recorded(request, reader, about, "retention", found.count)
    return json_answer(found, taken)


@put(
    "/v1/retention/{name:str}",
    status_code=200,
    tags=["funnels"],
    summary="Keep a retention under a name; a changed one is a new version",
    responses=PROBLEMS,
)
async def save_retention(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], name: _NAME
) -> Response[bytes]:
    """Answer with the version that is kept."""
    raw = await asked(request)
    core = house_of(request).core
    return json_answer(
        await through_outages(lambda: core.retentions.save(name, raw, reader.key_id), within_s=3)
    )


@get(
    "/v1/retention/{name:str}",
    tags=["funnels"],
    summary="A retention kept under a name, the newest version unless told otherwise",
    responses={404: ResponseSpec(ProblemDocument, description="There is none", generate_examples=False)},
)
async def saved_retention(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],  # noqa: ARG001 - who may not read is refused by it
    name: _NAME,
    version: NumberAsked = None,
) -> Response[bytes]:
    """Answer with the question."""
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.retentions.saved(name, version), within_s=3))


ROUTES = (query_retention, list_retained, save_retention, saved_retention)
"""The routes of this room."""
