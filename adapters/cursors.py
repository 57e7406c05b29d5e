"""Cursors: where a page ended, packed so that it can stand in an address; they are ours alone to read."""

from __future__ import annotations

import base64
from typing import TypeVar

import msgspec

from domain.errors import Invalid, Problem

__all__ = ["read_cursor", "write_cursor"]

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
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except (ValueError, msgspec.DecodeError):
        raise Invalid(
            [
                Problem(
                    "/cursor",
                    "This cursor was not made here; use `next` of the page before as it is.",
                    "cursor",
                )
            ]
        ) from None
