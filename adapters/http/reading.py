"""What all readings share: the two axes of time, waiting for a read model, and the time taken."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Request, Response
from litestar.params import QueryParameter

from adapters.http.auth import house_of
from domain.errors import Invalid, Problem

__all__ = [
    "LARGEST_NUMBER",
    "AsOf",
    "KnownAt",
    "NumberAsked",
    "Timed",
    "after_of",
    "as_of_of",
    "in_utc",
    "json_answer",
    "known_at_of",
    "local_time_of",
    "time_of",
    "timed",
]

AsOf = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        description=(
            "What had happened by then: an RFC 3339 time with its zone, or a position such as @123 for the time at which "
            "that was recorded. Absent: no cut."
        ),
    ),
]
KnownAt = Annotated[
    str | None,
    QueryParameter(
        name="known_at",
        description="What was known by then: an RFC 3339 time with its zone, or a position such as @123.",
    ),
]


LARGEST_NUMBER = 2**31 - 1
"""Versions, snapshots and rejected items are counted in 32 bits with a sign; what is beyond names none."""
NumberAsked = Annotated[
    int | None, QueryParameter(description="Which version; the newest by default", ge=1, le=LARGEST_NUMBER)
]


def _time(text: str, place: str) -> datetime:
    # A plus that was not percent-encoded reads as a blank: 12:00:00 01:00.
    text = text.strip().replace(" ", "+") if text.count(" ") == 1 and "T" in text.upper() else text.strip()
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise Invalid(
            [Problem(place, "This is no RFC 3339 time; right would be 2026-01-31T12:00:00Z.", "not_a_time")]
        ) from None
    if at.tzinfo is None:
        raise Invalid(
            [
                Problem(
                    place,
                    "The time has no zone, so the instant is unknown; add Z for UTC or an offset such as +01:00.",
                    "no_zone",
                )
            ]
        )
    return in_utc(at, place)


def in_utc(at: datetime, place: str) -> datetime:
    """An aware time in UTC.

    Raises:
        Invalid: it has no date there.
    """
    try:
        return at.astimezone(UTC)
    except OverflowError:  # within the first or last day of the calendar
        raise Invalid(
            [Problem(place, "The time lies outside the years 1 to 9999 in UTC.", "out_of_range")]
        ) from None


async def as_of_of(request: Request[Any, Any, Any], text: str | None) -> datetime | None:
    """Read `as_of`: a time, or a position written `@123`, which is the time at which that was recorded.

    Raises:
        Invalid: neither, a time without a zone, or a position that is not in the log.
    """
    if not text:
        return None
    if text.startswith("@"):
        return await house_of(request).core.histories.moments.recorded_at(_position(text, "/as_of"), "/as_of")
    return _time(text, "/as_of")


def _position(text: str, place: str) -> int:
    if text[1:].isascii() and text[1:].isdigit() and len(text) < 20:
        return int(text[1:])
    raise Invalid([Problem(place, "A position is written @ and digits, e.g. @123.", "not_a_position")])


def time_of(text: str | None, place: str) -> datetime | None:
    """Read a time that stands at *place*, a JSON pointer for the error.

    Raises:
        Invalid: no time, or one without a zone.
    """
    return None if not text else _time(text, place)


def local_time_of(text: str, zone: ZoneInfo, place: str, *, ends: bool = False) -> datetime:
    """Read a time as people write it on a page: RFC 3339, or a day or a time of day in the installation's *zone*.

    Args:
        ends: a day stands for its last microsecond; otherwise for its first.

    Raises:
        Invalid: it is no time; says how to write one.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        detail = f"'{text}' is no time; write 2026-01-31, 2026-01-31 12:00 or 2026-01-31T12:00:00Z."
        raise Invalid([Problem(place, detail, "not_a_time")]) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
        if len(text) == 10 and ends:  # a whole day has happened by its end
            last = at + (timedelta(days=1) - timedelta(microseconds=1))
            at = last.replace(fold=1)  # where clocks go back at midnight, the second of two
    return in_utc(at, place)


def known_at_of(text: str | None) -> datetime | int | None:
    """Read `known_at`: a time, or a position written `@123`.

    Raises:
        Invalid: neither.
    """
    if not text:
        return None
    if text.startswith("@"):
        return _position(text, "/known_at")
    return _time(text, "/known_at")


def after_of(request: Request[Any, Any, Any]) -> int:
    """The position of header Touchlog-After that the read models must have seen; 0 where it is absent.

    Raises:
        Invalid: it is no number.
    """
    text = request.headers.get("touchlog-after", "").strip().removeprefix("@")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(
            [
                Problem(
                    "",
                    "The header Touchlog-After is the position to wait for: a whole number.",
                    "not_a_position",
                )
            ]
        )
    return int(text)


class Timed:
    """How long an answer took."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()

    @property
    def header(self) -> dict[str, str]:
        """Server-Timing (W3C): bodies stay the same for ever, the time taken stands here."""
        return {"Server-Timing": f"total;dur={(time.perf_counter() - self._started_s) * 1000:.1f}"}


def timed() -> Timed:
    """Begin to take the time."""
    return Timed()


_encode = msgspec.json.Encoder().encode


def json_answer(
    value: Any, taken: Timed | None = None, *, headers: dict[str, str] | None = None
) -> Response[bytes]:
    """An answer in JSON that no cache may keep: it may hold personal data."""
    found = {"Cache-Control": "no-store", **(taken.header if taken else {}), **(headers or {})}
    return Response(_encode(value), media_type="application/json", headers=found)
