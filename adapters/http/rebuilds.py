"""Rebuilds: a read model folded anew beside the one that answers, asked for by an admin."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.http.auth import house_of, parameters_are_known, signed_in, unauthorised
from adapters.http.house import House
from adapters.http.problems import ProblemDocument
from adapters.http.reading import as_of_of, json_answer, known_at_of
from adapters.rebuilds.runs import RebuildRun, ask, connected, runs
from adapters.refusal import Refusal
from domain.entry import moment
from domain.errors import Invalid, Problem

__all__ = ["ROUTES", "rebuilds"]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a read model is to be rebuilt; all may be left out."""

    known_at: str | int | None = None  # only what was known by then: a time with zone, or a position
    as_of: str | None = None  # only what had happened by then
    compare: bool = False
    swap: bool = False


_PROBLEMS = {
    400: ResponseSpec(ProblemDocument, description="The body is not valid", generate_examples=False),
    403: ResponseSpec(ProblemDocument, description="The key is not an admin's", generate_examples=False),
    404: ResponseSpec(ProblemDocument, description="No such projection", generate_examples=False),
    409: ResponseSpec(
        ProblemDocument, description="One of this projection is under way", generate_examples=False
    ),
}


@post(
    "/v1/projections/{name:str}/rebuild",
    tags=["operations"],
    summary="Rebuild a read model beside the one that answers",
    description=(
        "Body, all of it optional: `known_at` (a time, or a position `@123`) and `as_of` give the read model of another moment, in a schema "
        "of its own; `compare` tells the rows that differ from what answers; `swap` puts the rebuilt rows in their place. The projectors part "
        "runs it; `GET /v1/projections` shows state, progress, rate, remaining time and what came of it. One that is cut off goes on by itself."
    ),
    status_code=202,
    responses=_PROBLEMS,
)
async def start_rebuild(
    request: Request[Any, Any, Any],
    name: Annotated[str, PathParameter(description="The projection, as /v1/projections lists it")],
) -> Response[bytes]:
    """Answer with the rebuild that was asked for, and where to look."""
    house = house_of(request)
    principal = await signed_in(request)
    if principal is None:
        raise unauthorised("Send an admin's key: Authorization: Bearer tl_…; DIR/admin.key holds the first.")
    if principal.role != "admin":
        raise Refusal(
            403,
            "forbidden",
            f"The key {principal.key_id} is of role {principal.role} and may not rebuild; use one of role admin.",
        )
    parameters_are_known(request, request.route_handler)
    wish = _wish(await request.body())
    as_of = await as_of_of(request, wish.as_of)
    known_at = wish.known_at if isinstance(wish.known_at, int) else known_at_of(wish.known_at)
    position = await house.core.histories.moments.resolve_known_at(known_at)

    def asked() -> RebuildRun:
        with connected(house.core.database_url) as conn:
            run_id = ask(
                conn,
                name,
                by=principal.key_id,
                known_at=position,
                as_of=as_of,
                compare=wish.compare,
                swap=wish.swap,
            )
            return next(run for run in runs(conn) if run.id == run_id)

    run = await asyncio.to_thread(asked)
    told: dict[str, Any] = {"rebuild": run.id, "name": name, "swap": wish.swap}
    if position is not None:
        told["known_at"] = position
    if as_of is not None:
        told["as_of"] = moment(as_of)
    await house.core.records.record("rebuild.started", principal=principal.key_id, data=told)
    answer = json_answer({"rebuild": run, "look": "/v1/projections"}, headers={"Location": "/v1/projections"})
    answer.status_code = 202
    return answer


def _wish(body: bytes) -> Wish:
    if not body.strip():
        return Wish()
    try:
        return msgspec.json.decode(body, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        right = 'right would be {"known_at": "@123", "as_of": "2026-01-31T12:00:00Z", "compare": true, "swap": false}, each left out or given'
        raise Invalid([Problem("", f"{error}; {right}.", "invalid")]) from None


async def rebuilds(house: House) -> list[RebuildRun]:
    """What is being rebuilt, and of every projection the rebuild that was the last."""

    def asked() -> list[RebuildRun]:
        with connected(house.core.database_url) as conn:
            return runs(conn)

    return await asyncio.to_thread(asked)


ROUTES = (start_rebuild,)
