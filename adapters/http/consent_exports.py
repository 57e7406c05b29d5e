"""Exports of consent over HTTP: the suppression list, and the whole register; streamed, on record before they begin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from adapters.consent.exports import DEFECTS, FORMATS, REGISTER, SUPPRESSIONS, Exports, Rows, form_of, written
from adapters.http.auth import action_of, house_of
from adapters.http.problems import ProblemDocument
from adapters.http.reading import KnownAt, after_of, known_at_of, time_of
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import Invalid, Problem

__all__ = ["ROUTES"]

_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="Something asked for is not valid", generate_examples=False
    ),
    503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
}
_Format = Annotated[str, QueryParameter(name="format", description="csv, or jsonl: one JSON object a line")]
_Personal = Annotated[
    bool,
    QueryParameter(
        description="With contact points in plain text; wants header Touchlog-Purpose, which goes on record"
    ),
]


def _exports(request: Request[Any, Any, Any]) -> Exports:
    core = house_of(request).core
    return Exports(core.pool, core.subjects, core.histories)


async def _begun(
    request: Request[Any, Any, Any], reader: Principal, known_at: str | None, form: str, personal: bool
) -> int:
    """The position of an export that is about to begin, with the disclosure on record.

    Raises:
        Invalid: the format is none, or personal values are asked for without a reason.
    """
    form_of(form)
    reason = request.headers.get("touchlog-purpose")
    if personal and not reason:
        raise Invalid(
            [
                Problem(
                    "/personal",
                    "personal=true discloses contact points and wants to know why: send header Touchlog-Purpose, which goes on record.",
                    "missing",
                )
            ]
        )
    known, after = known_at_of(known_at), after_of(request)
    position = await through_outages(lambda: _exports(request).position(known, after=after), within_s=3)
    asked = {k: v for k in ("purpose", "channel", "at") if (v := request.query_params.get(k))}
    await house_of(request).core.records.access(
        reader.key_id,
        action=action_of(request),
        purpose=reason,
        detail={**asked, "known_at": position, "personal": personal, "format": form, "count_known": False},
    )
    return position


async def _stream(
    batches: AsyncIterator[Rows], columns: Sequence[str], form: str, name: str, position: int
) -> Stream:
    """The answer, once its first rows are there: what cannot be read at all is still told with a status of its own."""
    first: Rows = await anext(batches, [])
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{name}-{position}.{form}"',
        "Touchlog-Known-At": str(position),
        "Touchlog-Head": str(position),
    }
    return Stream(
        written(_from(first, batches), columns, form_of(form)), media_type=FORMATS[form], headers=headers
    )


async def _from(first: Rows, batches: AsyncIterator[Rows]) -> AsyncIterator[Rows]:
    yield first
    async for rows in batches:
        yield rows


@get(
    "/v1/consent/suppressions",
    tags=["consent"],
    summary="Whom nobody may write to any more, as a file",
    description=(
        "One row a contact point for which a restriction stands (one for each of its owners that said so). With `purpose` and `channel` just those that stand in the way of that one; "
        "without, each restriction with its own scope, and in `except` what was allowed again later. Every row names `known_at`."
    ),
    responses=_PROBLEMS,
)
async def export_suppressions(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    purpose: Annotated[
        str | None, QueryParameter(description="For sending this, e.g. marketing.news")
    ] = None,
    channel: Annotated[str | None, QueryParameter(description="By this channel, e.g. email")] = None,
    at: Annotated[str | None, QueryParameter(description="The moment asked about; now by default")] = None,
    known_at: KnownAt = None,
    form: _Format = "csv",
    personal: _Personal = False,
) -> Stream:
    """Stream the list."""
    when = time_of(at, "/at")
    position = await _begun(request, reader, known_at, form, personal)
    rows = _exports(request).suppressions(
        position, at=when, purpose=purpose or None, channel=channel or None, personal=personal
    )
    return await _stream(rows, SUPPRESSIONS, form, "suppressions", position)


@get(
    "/v1/consent/register",
    tags=["consent"],
    summary="The whole register of consent, as a file",
    description="Every fact about consent and every notice as recorded, in the order of the log, as known at one position.",
    responses=_PROBLEMS,
)
async def export_register(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    known_at: KnownAt = None,
    form: _Format = "csv",
    personal: _Personal = False,
) -> Stream:
    """Stream the register."""
    position = await _begun(request, reader, known_at, form, personal)
    rows = _exports(request).register(position, personal=personal)
    return await _stream(rows, REGISTER, form, "register", position)


@get(
    "/v1/consent/defects",
    tags=["consent"],
    summary="Facts that have no effect, or deserve a look, as a file",
    description=(
        "Grants without notice or method, validity that ends before it begins, words about a fact that never came (all without effect), and "
        "notices never published, purposes and channels that nobody knows (in full effect). Nothing of them is lost."
    ),
    responses=_PROBLEMS,
)
async def export_defects(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    known_at: KnownAt = None,
    form: _Format = "csv",
) -> Stream:
    """Stream the list."""
    position = await _begun(request, reader, known_at, form, personal=False)
    return await _stream(_exports(request).defects(position), DEFECTS, form, "defects", position)


ROUTES = (export_suppressions, export_register, export_defects)
