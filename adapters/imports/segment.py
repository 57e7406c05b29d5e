"""Calls of Segment's tracking API in files: JSON lines, one array, or bodies of its batch route.

What its SDKs post, what RudderStack dumps and what a warehouse exports is the same call; each becomes what the route
makes of it (adapters/channels/segment.py), under the same key, so that a file of what was posted before records nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from adapters.channels import CHANNELS, Delivery, Translated
from adapters.deliveries import letter
from adapters.imports.cloudevents import JsonItem, is_segment, json_items
from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.source_file import SourceFile
from adapters.intake.payloads import json_error, members_of, not_json
from domain.errors import Invalid, Problem

__all__ = ["read"]

SOURCE = "segment"


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw] | None = None


def read(file: SourceFile, options: Options) -> Rows:
    """Read calls as they stand; a call without `messageId` has its place in the file as its id.

    Raises:
        Refused: the file is empty.
    """
    for item in json_items(file, options):
        if isinstance(item, Rejection):
            yield item
        else:
            yield from _called(item, options.source or SOURCE)


def _called(item: JsonItem, source: str) -> Iterator[Row | Rejection]:
    is_batch, no_json = _is_batch(item.raw)
    delivery = Delivery(
        body=item.raw if is_batch else b'{"batch":[%b]}' % item.raw,
        headers={},
        received_at=datetime.now(UTC),
        source=source,
        unique=f"row-{item.number}",
        call="import",  # sent long after: no clock is to blame for that
    )
    channel = CHANNELS[SOURCE]
    if no_json is not None:
        yield Rejection(item.place, letter(channel, delivery), [no_json], source)
        return
    for found in channel.read(delivery):
        place = f"{item.place}{found.place if is_batch else ''}"
        if not isinstance(found, Translated):
            problems = found.problems if is_batch else [_alone(problem) for problem in found.problems]
            yield Rejection(
                place, letter(channel, delivery), problems, source
            )  # as such it can be tried again
            continue
        try:
            yield Row(place, found.payload)
        except Invalid as wrong:
            yield Rejection(place, letter(channel, delivery), wrong.problems, source)


def _alone(problem: Problem) -> Problem:
    """The problem of a call that stands alone in the file, and not in the batch that was made around it."""
    return msgspec.structs.replace(problem, pointer=problem.pointer.removeprefix("/batch/0"))


def _is_batch(raw: bytes) -> tuple[bool, Problem | None]:
    """Whether it is a body of the batch route; or that it is no JSON at all."""
    try:
        return msgspec.json.decode(raw, type=_Envelope).batch is not None, None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if (at := json_error(raw)) is not None:
            told = f"The call is not JSON: {not_json(at)} at character {at.pos}."
            return False, Problem("", told, "not_json")
        return members_of(raw).get("batch", b"")[:1] == b"[", None  # the channel says what is wrong in it


register(
    Format(
        name="segment",
        meaning="calls of Segment's tracking API in JSON, one a line or in one array",
        read=read,
        recognises=is_segment,
    )
)
