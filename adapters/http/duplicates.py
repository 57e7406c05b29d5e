"""Likely duplicates over HTTP."""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from adapters.answers.duplicates import Candidates, Duplicates, DuplicatesPage
from adapters.answers.moments import WAIT_S
from adapters.http.auth import house_of
from adapters.http.house import House
from adapters.http.persons import access_recorded
from adapters.http.reading import after_of, json_answer, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal

__all__ = ["ROUTES", "likely_duplicates"]

MOST_KEPT = 1_000
MOST_COMPARED = 5_000
"""Pairs that one request unseals; `touchlog persons duplicates` compares them all."""
_WORTH_KEEPING_S = 1.0
_KEPT_FOR = 10
"""Times as long as it took to find them."""


class _Kept(NamedTuple):
    """The likeliest pairs of a look that took long: surrogates, compared again each time they are shown."""

    candidates: Candidates
    until_s: float


_kept: WeakKeyDictionary[House, _Kept] = WeakKeyDictionary()


async def likely_duplicates(house: House, *, limit: int, after: int = 0) -> DuplicatesPage:
    """The likeliest pairs, of the candidates with the most telling thing in common.

    Where many persons are known, looking for them takes seconds: the likeliest are kept for a while, and only
    compared again. Who was joined meanwhile is no pair any more; who came meanwhile is one a little later.
    """
    core = house.core
    asking = Duplicates(core.pool, core.keys, core.subjects, core.histories, region=core.ingest.region)
    kept = _kept.get(house)
    if kept is not None and time.monotonic() < kept.until_s and kept.candidates.head >= after:
        return await asking.page(kept.candidates, limit=limit)
    started_s = time.monotonic()
    candidates = await asking.candidates(after=after, within_s=WAIT_S)
    page = await asking.page(candidates, limit=MOST_KEPT, most_compared=MOST_COMPARED)
    took_s = time.monotonic() - started_s
    if took_s > _WORTH_KEEPING_S:
        pairs = [(UUID(pair.a.id), UUID(pair.b.id)) for pair in page.pairs]
        _kept[house] = _Kept(candidates.likeliest(pairs), time.monotonic() + _KEPT_FOR * took_s)
    return msgspec.structs.replace(page, pairs=page.pairs[:limit])


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
