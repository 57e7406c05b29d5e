"""Types: what can be recorded, each with its JSON Schema."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.http.auth import needs_key
from adapters.http.problems import ProblemDocument
from domain.errors import NotFound
from domain.event import TYPES, EventType

__all__ = ["ROUTES", "TypeShown"]


class TypeShown(msgspec.Struct, frozen=True, kw_only=True):
    """One type of event as published."""

    name: str
    version: int
    channel: str  # the default; an event may say otherwise
    direction: str | None
    description: str
    touchpoint: bool  # False: a record about records, no contact with a customer
    internal: bool  # True: recorded by touchlog itself, not taken from outside
    personal: list[str]  # fields of data that are sealed under the key of the person
    others: list[str]  # fields sealed under the person whom they name
    schema: dict[str, Any]  # JSON Schema of data


def _shown(declared: EventType) -> TypeShown:
    return TypeShown(
        name=declared.name,
        version=declared.version,
        channel=declared.channel,
        direction=declared.direction,
        description=(declared.cls.__doc__ or "").strip().partition("\n")[0],
        touchpoint=declared.touchpoint,
        internal=declared.internal,
        personal=sorted(declared.personal),
        others=sorted(declared.others),
        schema=declared.json_schema(),
    )


@cache
def _all() -> bytes:
    return msgspec.json.encode({"types": [_shown(TYPES[name]) for name in sorted(TYPES)]})


@get(
    "/v1/types",
    tags=["types"],
    summary="All types of events",
    description="Each with its default channel and the JSON Schema of `data`.",
    guards=[needs_key],
)
async def list_types() -> Response[bytes]:
    """Answer with every declared type."""
    return Response(_all(), media_type="application/json")


@get(
    "/v1/types/{name:str}",
    guards=[needs_key],
    tags=["types"],
    summary="One type of event",
    description="With `Accept: application/schema+json` the answer is the JSON Schema of `data` alone.",
    responses={
        404: ResponseSpec(ProblemDocument, description="No such type is declared", generate_examples=False)
    },
)
async def show_type(
    request: Request[Any, Any, Any],
    name: Annotated[str, PathParameter(description="Stored name, e.g. call.ended")],
) -> Response[bytes]:
    """Answer with one declared type."""
    declared = TYPES.get(name)
    if declared is None:
        raise NotFound(
            f"No type '{name[:100]}' is declared. An event of it is recorded as custom.{name[:100]}, its data whole and personal; "
            "GET /v1/types lists those that are declared."
        )
    if "application/schema+json" in request.headers.get("accept", ""):
        return Response(msgspec.json.encode(declared.json_schema()), media_type="application/schema+json")
    return Response(msgspec.json.encode(_shown(declared)), media_type="application/json")


ROUTES = (list_types, show_type)
