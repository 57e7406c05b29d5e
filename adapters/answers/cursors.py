"""Cursors: where a page ended, packed so that it can stand in an address; they are ours alone to read."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from domain.errors import Invalid, Problem

__all__ = ["hold_moment", "read_cursor", "write_cursor"]

P = TypeVar("P", bound=msgspec.Struct)


def write_cursor(place: msgspec.Struct) -> str:
    """*place* as a text without signs that an address would escape."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(cursor: str, kind: type[P]) -> P:
    """The place that a cursor of this kind stands for.

    Raises:
        Invalid: it was not made here.
    """
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
        for name in kind.__struct_fields__:
            _check_instant(getattr(place, name))
    except (ValueError, OverflowError, msgspec.DecodeError):
        raise Invalid(
            [
                Problem(
                    "/cursor",
                    "This cursor was not made here; use `next` of the page before as it is.",
                    "cursor",
                )
            ]
        ) from None
    return place


def _check_instant(value: object) -> None:
    """Check that a time names an instant of the calendar; ours all do.

    Raises:
        ValueError, OverflowError: it has no zone, or lies outside of the calendar in UTC.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError
        value.astimezone(UTC)


def hold_moment(
    of_cursor: tuple[datetime | None, int | None], as_of: datetime | None, known_at: int | None
) -> None:
    """Check that a page is asked for at the moment of its cursor, or without one.

    Args:
        of_cursor: the cursor's own as_of and known_at.

    Raises:
        Invalid: another moment is asked for; neither is silently preferred.
    """
    own_as_of, own_known_at = of_cursor
    for name, asked, own in (
        ("as_of", as_of, own_as_of),
        ("known_at", known_at, own_known_at),
    ):
        if asked is not None and asked != own:
            raise Invalid(
                [
                    Problem(
                        f"/{name}",
                        f"The cursor goes on with a page of another {name}; ask with that page's, leave {name} out, or leave the cursor out.",
                        "other_moment",
                    )
                ]
            )
