"""Likely duplicates over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from adapters.duplicates import Duplicates, DuplicatesPage
from adapters.history import WAIT_S
from adapters.http.auth import house_of
from adapters.http.house import House
from adapters.http.persons import access_recorded
from adapters.http.reading import after_of, json_answer, timed
from adapters.ingest import Principal
from adapters.postgres.outage import through_outages

__all__ = ["ROUTES", "likely_duplicates"]

MOST_COMPARED = 5_000
"""Pairs that one request unseals; `touchlog persons duplicates` compares them all."""


async def likely_duplicates(house: House, *, limit: int, after: int = 0) -> DuplicatesPage:
    """The likeliest pairs, of the candidates with the most telling thing in common."""
    core = house.core
    asking = Duplicates(core.pool, core.keys, core.subjects, core.histories, region=core.ingest.region)
    return await asking.page(limit=limit, most_compared=MOST_COMPARED, after=after, within_s=WAIT_S)


@get(
    "/v1/persons/duplicates",
    tags=["persons"],
    summary="Persons that may be one",
    description=(
        "Pairs with their reasons and a score, the likeliest first: the same e-mail address or phone number with different persons, "
        "in a profile or as identifier; similar names together with a similar address or the same birth date; an event that named both "
        f"where the link was refused. Nothing is merged: `merge` is the command that would. At most {MOST_COMPARED:,} candidates are compared; "
        "`candidates` and `compared` tell, and `touchlog persons duplicates` compares all."
    ),
)
async def show_duplicates(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many pairs; above 1,000 is taken as 1,000")
    ] = 50,
) -> Response[bytes]:
    """Answer with the likeliest pairs."""
    taken = timed()
    house = house_of(request)
    after = after_of(request)

    async def asked() -> DuplicatesPage:
        return await likely_duplicates(house, limit=limit, after=after)

    page = await through_outages(asked, within_s=3)
    await access_recorded(request, reader, about_pairs(page), "", len(page.pairs))
    return json_answer(page, taken)


def about_pairs(page: DuplicatesPage) -> tuple[str, ...]:
    """The subjects of everybody on the page."""
    return tuple(
        dict.fromkeys(s["subject"] for pair in page.pairs for side in (pair.a, pair.b) for s in side.subjects)
    )


ROUTES = (show_duplicates,)
