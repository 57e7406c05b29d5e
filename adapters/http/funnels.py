"""Funnels: who went through which steps; lists of persons are on record before they leave."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.funnels import Members
from adapters.http.auth import house_of
from adapters.http.drawing import drawn, wants_drawing
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument, Refusal
from adapters.http.reading import after_of, json_answer, timed
from adapters.ingest import Principal
from adapters.postgres.outage import through_outages
from domain.errors import Invalid, Problem

__all__ = ["PROBLEMS", "ROUTES", "asked"]

PROBLEMS = {
    400: ResponseSpec(ProblemDocument, description="The question is not valid", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="A read model is behind", generate_examples=False),
}
_NAME = Annotated[str, PathParameter(description="Name of a saved funnel")]
_MOST_BYTES = 1 << 20


async def asked(request: Request[Any, Any, Any]) -> Any:
    """The body as JSON."""
    body = await request.body()
    if len(body) > _MOST_BYTES:
        raise Refusal(413, "too_large", "A question is at most 1 MiB.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid(
            [Problem("", 'The body is no JSON; a funnel is {"steps": […], "window": "P14D"}.', "not_json")]
        ) from None


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
    taken, raw, after = timed(), await asked(request), after_of(request)
    core = house_of(request).core
    found = await through_outages(lambda: core.funnels.query(raw, after=after), within_s=3)
    if wants_drawing(request):
        from adapters.charts import funnel_chart
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
        "breakdown or `period` of the trend; `limit` and `cursor` page."
    ),
    responses=PROBLEMS,
)
async def list_persons(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[bytes]:
    """Answer with the persons of one bar."""
    taken, raw, after = timed(), await asked(request), after_of(request)
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
    version: Annotated[int | None, QueryParameter(description="Which version")] = None,
) -> Response[bytes]:
    """Answer with the question."""
    core = house_of(request).core
    return json_answer(await through_outages(lambda: core.funnels.saved(name, version), within_s=3))


ROUTES = (query_funnel, list_persons, save_funnel, saved_funnel)
"""The routes of this room."""
